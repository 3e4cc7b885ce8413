// The linear layers with packed weights, in buffers without a byte to spare: integers whose
// products are known exactly.

#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "check.hpp"
#include "cpu/dispatch.hpp"
#include "cpu/int4_linear.hpp"
#include "cpu/int8_linear.hpp"
#include "cpu/linear.hpp"
#include "cpu/packed_weight.hpp"
#include "torch_cpu.hpp"

using namespace weldlm::cpu;
using namespace weldlm::test;

namespace {

using Index = std::int64_t;

struct Size {
  Index rows, channels, depth;
};

// Integers of x [rows, depth], with a 127 and thus a scale of 1 in each 32, and of W.
struct Problem {
  Problem(Size size, int most)
      : size(size), x(at(size.rows * size.depth)), bias(at(size.channels)) {
    std::mt19937 random(static_cast<unsigned>(size.depth + size.channels));
    for (std::size_t i = 0; i < x.size(); ++i)
      x[i] = i % at(size.depth) % 32 == 0 ? 127 : static_cast<int>(random() % 255) - 127;
    for (float& value : bias) value = static_cast<float>(random() % 9);
    for (Index i = 0; i < size.channels * size.depth; ++i)
      weight.push_back(static_cast<int>(random() % at(2 * most + 1)) - most);
  }

  static std::size_t at(Index i) { return static_cast<std::size_t>(i); }

  int integer(Index channel, Index k) const {
    const bool is_padding = channel >= size.channels || k >= size.depth;
    return is_padding ? 0 : weight[at(channel * size.depth + k)];
  }

  void check_result(const std::unique_ptr<float[]>& y) const {
    for (Index row = 0; row < size.rows; ++row)
      for (Index channel = 0; channel < size.channels; ++channel) {
        double expected = bias[at(channel)];
        for (Index k = 0; k < size.depth; ++k)
          expected += 0.5 * x[at(row * size.depth + k)] * integer(channel, k);
        check(y[at(row * size.channels + channel)] == expected, "exact product");
      }
  }

  Size size;
  std::vector<float> x, bias;
  std::vector<int> weight;
};

void fp32_is_exact(Size size) {
  const Problem problem(size, 127);
  std::vector<float> weight;
  for (Index panel = 0; panel < panel_count(size.channels); ++panel)
    for (Index k = 0; k < size.depth; ++k)
      for (Index channel = 0; channel < 16; ++channel)
        weight.push_back(0.5f * static_cast<float>(problem.integer(panel * 16 + channel, k)));
  const auto y = std::make_unique<float[]>(Problem::at(size.rows * size.channels));
  linear({problem.x.data(), weight.data(), problem.bias.data(), y.get(), size.rows, size.depth,
          size.channels});
  problem.check_result(y);
}

void int8_is_exact(Size size) {
  const Problem problem(size, 127);
  const Index panels = panel_count(size.channels), depth = int8_depth(size.depth);
  std::vector<std::uint8_t> values;
  for (Index panel = 0; panel < panels; ++panel)
    for (Index quad = 0; quad < depth; quad += 4)
      for (Index channel = 0; channel < 16; ++channel)
        for (Index j = 0; j < 4; ++j) {
          const int integer = problem.integer(panel * 16 + channel, quad + j);
          values.push_back(static_cast<std::uint8_t>(integer + 128));
        }
  const std::vector<float> scales(Problem::at(panels * 16), 0.5f);
  const auto y = std::make_unique<float[]>(Problem::at(size.rows * size.channels));
  const auto workspace = std::make_unique<std::byte[]>(int8_workspace(size.rows, size.depth));
  int8_linear({problem.x.data(), values.data(), scales.data(), problem.bias.data(), y.get(),
               size.rows, size.depth, size.channels},
              workspace.get());
  problem.check_result(y);
}

void int4_is_exact(Size size, Index group_size, bool has_minimums) {
  const Problem problem(size, 7);
  const Index panels = panel_count(size.channels), groups = size.depth / group_size;
  const int zero = has_minimums ? 7 : 8;
  std::vector<std::uint8_t> values;
  for (Index panel = 0; panel < panels; ++panel)
    for (Index block = 0; block < size.depth; block += 32)
      for (Index quad = 0; quad < 16; quad += 4)
        for (Index channel = 0; channel < 16; ++channel)
          for (Index j = 0; j < 4; ++j) {
            const int low = problem.integer(panel * 16 + channel, block + quad + j) + zero;
            const int high = problem.integer(panel * 16 + channel, block + 16 + quad + j) + zero;
            values.push_back(static_cast<std::uint8_t>(low | high << 4));
          }
  const std::vector<std::uint16_t> scales(Problem::at(panels * groups * 16), 0x3800);  // 0.5
  const std::vector<std::uint16_t> minimums(scales.size(), 0xc300);  // -3.5
  const auto y = std::make_unique<float[]>(Problem::at(size.rows * size.channels));
  const auto workspace =
      std::make_unique<std::byte[]>(int4_workspace(size.rows, size.depth, group_size));
  int4_linear({problem.x.data(), values.data(), scales.data(), has_minimums ? minimums.data() : nullptr,
               problem.bias.data(), y.get(), size.rows, size.depth, size.channels, group_size},
              workspace.get());
  problem.check_result(y);
}

void products_are_exact() {
  for (const Index rows : {1, 2, 3, 6, 7, 17})
    for (const Index channels : {1, 15, 16, 17, 50}) {
      for (const Index depth : {1, 4, 7, 33, 130, 513}) {
        fp32_is_exact({rows, channels, depth});
        int8_is_exact({rows, channels, depth});
      }
      for (const Index group_size : {32, 64, 128}) {
        int4_is_exact({rows, channels, 128}, group_size, false);
        int4_is_exact({rows, channels, 256}, group_size, true);
      }
    }
  fp32_is_exact({0, 5, 8});
  fp32_is_exact({9, 700, 300});
  int8_is_exact({0, 5, 8});
  int4_is_exact({0, 5, 64}, 32, false);
  int8_is_exact({9, 700, 300});
}

}  // namespace

int main() {
  for (const std::string& set : available_instruction_sets()) {
    force_instruction_set(set);
    for (const int threads : {1, 3}) {
      torch_num_threads = threads;
      products_are_exact();
    }
  }
}
