#pragma once

#include <cstddef>
#include <cstdint>

namespace weldlm::cpu {

// y = x W^T + bias, with W packed in 4 bits (packed_weight.hpp). Each group of x is rounded to
// integers of -127 to 127 with a scale of its own; the integers of a group are multiplied exactly
// and the groups added in their order, so that a row of y has the same bits whatever rows stand
// beside it. A row with NaN or infinity gives NaN.
struct Int4Linear {
  const float* x;                 // [num_rows, in_features]
  const std::uint8_t* values;     // a packed weight
  const std::uint16_t* scales;    // [panels, in_features / group_size, 16], fp16
  const std::uint16_t* minimums;  // the same, or null: each is -8 scales
  const float* bias;              // [out_features] or null
  float* y;                       // [num_rows, out_features]
  std::int64_t num_rows;
  std::int64_t in_features;  // a multiple of group_size
  std::int64_t out_features;
  std::int64_t group_size;  // a multiple of 32
};

// Bytes to work in that int4_linear() needs.
[[nodiscard]] std::size_t int4_workspace(std::int64_t num_rows, std::int64_t in_features,
                                         std::int64_t group_size) noexcept;

void int4_linear(const Int4Linear& linear, std::byte* workspace) noexcept;

// The activations in the workspace: integers [num_rows, in_features], and for each group a scale,
// -8 times the sum of its integers, and scale times that sum.
struct Int4Rows {
  std::int8_t* values;
  float* scales;
  std::int32_t* offsets;
  float* totals;
};

// The two steps on rows [begin, end) and on panels [begin, end).
struct Int4Kernel {
  void (*quantize)(const Int4Linear& linear, const Int4Rows& rows, std::int64_t begin,
                   std::int64_t end) noexcept;
  void (*multiply)(const Int4Linear& linear, const Int4Rows& rows, std::int64_t begin,
                   std::int64_t end) noexcept;
};

extern const Int4Kernel int4_kernel_baseline;
extern const Int4Kernel int4_kernel_avx2;
extern const Int4Kernel int4_kernel_avx512;

}  // namespace weldlm::cpu
