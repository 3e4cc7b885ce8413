#include "cpu/int8_linear.hpp"

#include "cpu/dispatch.hpp"
#include "cpu/packed_weight.hpp"
#include "cpu/parallel.hpp"

namespace weldlm::cpu {
namespace {

// Bytes of weight, times rows, that are worth a thread: about ten times what starting one costs.
constexpr std::int64_t products_per_thread = 1 << 17;
// Activations that are worth a thread.
constexpr std::int64_t activations_per_thread = 32768;

// The most that an instruction set needs.
constexpr std::size_t bytes_per_activation = sizeof(std::int16_t);

constexpr std::int64_t most_groups(std::int64_t in_features) noexcept {
  return (in_features + int8_group - 1) / int8_group;
}

}  // namespace

std::size_t int8_workspace(std::int64_t num_rows, std::int64_t in_features) noexcept {
  const auto rows = static_cast<std::size_t>(num_rows);
  const auto groups = static_cast<std::size_t>(most_groups(in_features));
  return rows * (groups * (sizeof(float) + sizeof(std::int32_t)) +
                 static_cast<std::size_t>(int8_depth(in_features)) * bytes_per_activation);
}

void int8_linear(const Int8Linear& linear, std::byte* workspace) noexcept {
  const Int8Kernel& kernel =
      variant(int8_kernel_baseline, int8_kernel_avx2, int8_kernel_avx512);
  const std::int64_t num_rows = linear.num_rows, depth = int8_depth(linear.in_features);
  const std::int64_t groups = num_rows * most_groups(linear.in_features);
  auto* scales = reinterpret_cast<float*>(workspace);
  auto* offsets = reinterpret_cast<std::int32_t*>(scales + groups);
  const Int8Rows rows{reinterpret_cast<std::byte*>(offsets + groups), scales, offsets};

  const std::int64_t row_grain = 1 + activations_per_thread / depth;
  parallel_for(0, num_rows, row_grain, [&](std::int64_t begin, std::int64_t end) noexcept {
    kernel.quantize(linear, rows, begin, end);
  });
  const std::int64_t grain = 1 + products_per_thread / (num_rows * depth * panel_channels + 1);
  parallel_for(0, panel_count(linear.out_features), grain,
               [&](std::int64_t begin, std::int64_t end) noexcept {
                 kernel.multiply(linear, rows, begin, end);
               });
}

}  // namespace weldlm::cpu
