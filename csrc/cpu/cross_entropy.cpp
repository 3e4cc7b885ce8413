#include "cpu/cross_entropy.hpp"

#include "cpu/dispatch.hpp"
#include "cpu/parallel.hpp"

namespace weldlm::cpu {
namespace {

// Logits that are worth a thread: about ten times what starting one costs.
constexpr std::int64_t logits_per_thread = 32768;

const CrossEntropyRow& cross_entropy_row() noexcept {
  return variant(cross_entropy_row_baseline, cross_entropy_row_avx2);
}

template <class RowLoss>
void for_each_row(const LabelledLogits& rows, double* losses, RowLoss row_loss) noexcept {
  const std::int64_t grain = 1 + logits_per_thread / (rows.vocab_size + 1);
  parallel_for(0, rows.num_rows, grain, [&](std::int64_t begin, std::int64_t end) noexcept {
    for (std::int64_t row = begin; row < end; ++row) {
      float* logits = rows.logits + row * rows.row_stride;
      losses[row] = row_loss(logits, rows.vocab_size, rows.targets[row]);
    }
  });
}

}  // namespace

void cross_entropy(const LabelledLogits& rows, double* losses) noexcept {
  for_each_row(rows, losses, cross_entropy_row().loss);
}

void cross_entropy_with_gradient(const LabelledLogits& rows, double* losses) noexcept {
  for_each_row(rows, losses, cross_entropy_row().loss_with_gradient);
}

}  // namespace weldlm::cpu
