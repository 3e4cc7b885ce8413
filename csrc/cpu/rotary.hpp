#pragma once

#include <cstdint>

namespace weldlm::cpu {

// Rotates the first 2 * half_width channels of each head [num_tokens, num_heads, head_dim] by the
// angle of its position; the others are copied. x and out may be the same memory.
struct Rotary {
  const float* x;
  std::int64_t x_token_stride, x_head_stride;
  const float* cos;  // [context_length, half_width]
  const float* sin;
  const std::int64_t* positions;  // [num_tokens]
  float* out;
  std::int64_t out_token_stride, out_head_stride;
  std::int64_t num_tokens, num_heads, head_dim, half_width, context_length;
  bool is_interleaved;  // pairs are neighbors instead of the two halves
};

// Whether every position lies in the tables.
[[nodiscard]] bool has_angles(const Rotary& rotary) noexcept;

void rotate(const Rotary& rotary) noexcept;

}  // namespace weldlm::cpu
