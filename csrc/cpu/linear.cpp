#include "cpu/linear.hpp"

#include "cpu/dispatch.hpp"
#include "cpu/packed_weight.hpp"
#include "cpu/parallel.hpp"

namespace weldlm::cpu {
namespace {

// Products that are worth a thread: about ten times what starting one costs.
constexpr std::int64_t products_per_thread = 1 << 16;

}  // namespace

void linear(const Linear& linear) noexcept {
  const LinearPanels multiply =
      variant(linear_panels_baseline, linear_panels_avx2, linear_panels_avx512);
  const std::int64_t products_per_panel = linear.num_rows * linear.in_features * panel_channels;
  const std::int64_t grain = 1 + products_per_thread / (products_per_panel + 1);
  parallel_for(0, panel_count(linear.out_features), grain,
               [&](std::int64_t begin, std::int64_t end) noexcept { multiply(linear, begin, end); });
}

}  // namespace weldlm::cpu
