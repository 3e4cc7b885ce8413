#pragma once

#include <cstdint>

namespace weldlm::cpu {

// Rows of scores [num_rows, vocab_size], row_stride floats apart, and for each how to draw a token:
// see weldlm_kernels/sampling. Temperatures of 0 take the highest score. Null filters keep all.
struct Draws {
  const float* scores;
  std::int64_t row_stride, num_rows, vocab_size;
  const float* temperatures;
  const std::int64_t* seeds;
  const std::int64_t* positions;
  const std::int64_t* top_k;
  const float* top_p;
  const float* min_p;
  std::int64_t* ids;
};

// Filters select in linear time, without a sort. Allocates.
void draw_tokens(const Draws& draws);

}  // namespace weldlm::cpu
