#pragma once

#include <cstdint>

namespace weldlm::cpu {

// Rows of logits [num_rows, vocab_size], each row_stride floats after the one before, with their
// targets [num_rows], each in [0, vocab_size).
struct LabelledLogits {
  float* logits;
  const std::int64_t* targets;
  std::int64_t num_rows;
  std::int64_t vocab_size;
  std::int64_t row_stride;
};

// losses[row] = logsumexp(logits[row]) - logits[row][target]
void cross_entropy(const LabelledLogits& rows, double* losses) noexcept;

// The same, and replaces the logits by the gradient of the summed loss: softmax(logits) - onehot.
void cross_entropy_with_gradient(const LabelledLogits& rows, double* losses) noexcept;

// One row, as a vector kernel.
struct CrossEntropyRow {
  double (*loss)(const float* logits, std::int64_t vocab_size, std::int64_t target) noexcept;
  double (*loss_with_gradient)(float* logits, std::int64_t vocab_size,
                               std::int64_t target) noexcept;
};

extern const CrossEntropyRow cross_entropy_row_baseline;
extern const CrossEntropyRow cross_entropy_row_avx2;

}  // namespace weldlm::cpu
