#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <limits>

// Keys or values of many sequences in blocks of tokens, and what their elements may be.
namespace weldlm::cpu {

enum class CacheElement { fp32, int8, fp8 };

// An e4m3fn number: a sign, 4 bits of exponent, 3 of mantissa, no infinity.
struct Fp8 {
  std::uint8_t bits;
};

struct Fp16 {
  std::uint16_t bits;
};

// [blocks, block_size, num_kv_heads, head_dim], a head's elements side by side. Strides are in
// elements.
struct PagedCache {
  void* data;
  std::int64_t block_stride, token_stride, head_stride;
  void* scale;  // [blocks, block_size, num_kv_heads]; null for fp32
  std::int64_t scale_block_stride, scale_token_stride, scale_head_stride;
  bool has_fp16_scale;
};

// The floats of all fp8 numbers.
constexpr std::array<float, 256> make_fp8_values() noexcept {
  std::array<float, 256> values{};
  for (std::uint32_t bits = 0; bits < 256; ++bits) {
    const std::uint32_t exponent = bits >> 3 & 15, mantissa = bits & 7;
    float magnitude = static_cast<float>(mantissa) / 512;
    if (exponent > 0) magnitude = std::bit_cast<float>((exponent + 120) << 23 | mantissa << 20);
    if ((bits & 127) == 127) magnitude = std::numeric_limits<float>::quiet_NaN();
    values[bits] = bits < 128 ? magnitude : -magnitude;
  }
  return values;
}

inline constexpr std::array<float, 256> fp8_values = make_fp8_values();

}  // namespace weldlm::cpu
