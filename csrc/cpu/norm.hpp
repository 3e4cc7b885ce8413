#pragma once

#include <cstdint>

namespace weldlm::cpu {

// Matrices are [num_rows, hidden_size], vectors [hidden_size], statistics [num_rows]. With s = x (+
// residual) and x^ = (s - mean) * rstd: y = x^ * weight (+ bias). rms_norm has no mean and no bias.
struct NormForward {
  const float* x;
  const float* residual;  // or null
  const float* weight;
  const float* bias;  // or null
  float* y;
  float* stream;  // s; null without residual
  float* mean;    // null for rms_norm
  float* rstd;
  std::int64_t num_rows;
  std::int64_t hidden_size;
  float eps;
};

// The gradients of s, weight and bias. The sums over rows are taken over blocks of rows_per_block
// and then over the blocks in order, so the result is the same on any number of threads.
struct NormBackward {
  const float* grad_y;
  const float* grad_stream;  // what reaches s directly; or null
  const float* stream;       // s
  const float* weight;
  const float* mean;  // null for rms_norm
  const float* rstd;
  float* grad_s;
  float* block_sums;  // [blocks, 2, hidden_size] to work in; [blocks, hidden_size] for rms_norm
  float* grad_weight;
  float* grad_bias;  // null for rms_norm
  std::int64_t num_rows;
  std::int64_t hidden_size;
  std::int64_t rows_per_block;
};

void layer_norm(const NormForward& norm) noexcept;
void layer_norm_backward(const NormBackward& norm) noexcept;
void rms_norm(const NormForward& norm) noexcept;
void rms_norm_backward(const NormBackward& norm) noexcept;

// Rows [begin, end) of the above, as vector kernels.
struct NormRows {
  void (*forward)(const NormForward& norm, std::int64_t begin, std::int64_t end) noexcept;
  // adds the rows' gradients of weight (and bias) to `sums`
  void (*backward)(const NormBackward& norm, std::int64_t begin, std::int64_t end,
                   float* sums) noexcept;
};

extern const NormRows layer_norm_rows_baseline, rms_norm_rows_baseline;
extern const NormRows layer_norm_rows_avx2, rms_norm_rows_avx2;

}  // namespace weldlm::cpu
