#pragma once

#include <cstdint>

namespace weldlm::cpu {

// y = x W^T + bias in fp32, with W packed (packed_weight.hpp). Products are added along K in blocks
// of a fixed size, and the blocks in their order, so that a row of y has the same bits whatever rows
// stand beside it.
struct Linear {
  const float* x;       // [num_rows, in_features]
  const float* weight;  // a packed weight
  const float* bias;    // [out_features] or null
  float* y;             // [num_rows, out_features]
  std::int64_t num_rows;
  std::int64_t in_features;
  std::int64_t out_features;
};

void linear(const Linear& linear) noexcept;

// The result for panels [begin, end).
using LinearPanels = void (*)(const Linear& linear, std::int64_t begin, std::int64_t end) noexcept;

extern const LinearPanels linear_panels_baseline;
extern const LinearPanels linear_panels_avx2;
extern const LinearPanels linear_panels_avx512;

}  // namespace weldlm::cpu
