#include "cpu/int4_linear.hpp"

#include "cpu/dispatch.hpp"
#include "cpu/packed_weight.hpp"
#include "cpu/parallel.hpp"

namespace weldlm::cpu {
namespace {

// Products that are worth a thread: about ten times what starting one costs.
constexpr std::int64_t products_per_thread = 1 << 17;
// Activations that are worth a thread.
constexpr std::int64_t activations_per_thread = 32768;

}  // namespace

std::size_t int4_workspace(std::int64_t num_rows, std::int64_t in_features,
                           std::int64_t group_size) noexcept {
  const auto activations = static_cast<std::size_t>(num_rows * in_features);
  const auto groups = activations / static_cast<std::size_t>(group_size);
  return groups * (2 * sizeof(float) + sizeof(std::int32_t)) + activations;
}

void int4_linear(const Int4Linear& linear, std::byte* workspace) noexcept {
  const Int4Kernel& kernel = variant(int4_kernel_baseline, int4_kernel_avx2, int4_kernel_avx512);
  const std::int64_t num_rows = linear.num_rows, depth = linear.in_features;
  const std::int64_t groups = num_rows * (depth / linear.group_size);
  auto* scales = reinterpret_cast<float*>(workspace);
  auto* offsets = reinterpret_cast<std::int32_t*>(scales + groups);
  auto* totals = reinterpret_cast<float*>(offsets + groups);
  const Int4Rows rows{reinterpret_cast<std::int8_t*>(totals + groups), scales, offsets, totals};

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
