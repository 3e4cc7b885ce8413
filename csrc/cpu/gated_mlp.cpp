#include "cpu/gated_mlp.hpp"

#include "cpu/dispatch.hpp"
#include "cpu/parallel.hpp"

namespace weldlm::cpu {
namespace {

// Elements that are worth a thread: about ten times what starting one costs.
constexpr std::int64_t elements_per_thread = 16384;

const GatedMlpRows& kernel() noexcept {
  return variant(gated_mlp_rows_baseline, gated_mlp_rows_avx2, gated_mlp_rows_avx512);
}

}  // namespace

void gated_mlp(const GatedMlp& mlp) noexcept {
  const GatedMlpRows& rows = kernel();
  const std::int64_t grain = 1 + elements_per_thread / (mlp.width + 1);
  parallel_for(0, mlp.num_rows, grain, [&](std::int64_t begin, std::int64_t end) noexcept {
    rows.forward(mlp, begin, end);
  });
}

void gated_mlp_backward(const GatedMlp& mlp) noexcept {
  const GatedMlpRows& rows = kernel();
  const std::int64_t grain = 1 + elements_per_thread / (mlp.width + 1);
  parallel_for(0, mlp.num_rows, grain, [&](std::int64_t begin, std::int64_t end) noexcept {
    rows.backward(mlp, begin, end);
  });
}

}  // namespace weldlm::cpu
