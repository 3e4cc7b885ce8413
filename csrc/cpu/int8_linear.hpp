#pragma once

#include <cstddef>
#include <cstdint>

namespace weldlm::cpu {

// y = x W^T + bias, with W packed in 8 bits (packed_weight.hpp). Each group of x is rounded to
// integers with a scale of its own; the integers of a group are multiplied exactly and the groups
// added in their order, so that a row of y has the same bits whatever rows stand beside it. A row
// with NaN or infinity gives NaN.
struct Int8Linear {
  const float* x;              // [num_rows, in_features]
  const std::uint8_t* values;  // a packed weight
  const float* scales;         // [panels * 16]
  const float* bias;           // [out_features] or null
  float* y;                    // [num_rows, out_features]
  std::int64_t num_rows;
  std::int64_t in_features;
  std::int64_t out_features;
};

// Neighbors along K of one row of x that share a scale where its integers are -127 to 127. Where 16
// bits are multiplied as fast, all of a row do: 127 times a power of two then serves as well.
constexpr std::int64_t int8_group = 64;

// Bytes to work in that int8_linear() needs.
[[nodiscard]] std::size_t int8_workspace(std::int64_t num_rows, std::int64_t in_features) noexcept;

void int8_linear(const Int8Linear& linear, std::byte* workspace) noexcept;

// The activations in the workspace: [num_rows, depth] integers of 8 or 16 bits, as the instruction
// set multiplies them, and for each group a scale and -128 times the sum of its integers,
// which takes away what the 128 in each byte of a weight adds.
struct Int8Rows {
  std::byte* values;
  float* scales;
  std::int32_t* offsets;
};

// The two steps on rows [begin, end) and on panels [begin, end).
struct Int8Kernel {
  void (*quantize)(const Int8Linear& linear, const Int8Rows& rows, std::int64_t begin,
                   std::int64_t end) noexcept;
  void (*multiply)(const Int8Linear& linear, const Int8Rows& rows, std::int64_t begin,
                   std::int64_t end) noexcept;
};

extern const Int8Kernel int8_kernel_baseline;
extern const Int8Kernel int8_kernel_avx2;
extern const Int8Kernel int8_kernel_avx512;

}  // namespace weldlm::cpu
