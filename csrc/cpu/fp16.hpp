#pragma once

#include <bit>
#include <cstdint>

#include "cpu/paged_cache.hpp"

// Internal linkage, as in vector.hpp.
namespace weldlm::cpu {
namespace {

inline float from_fp16(Fp16 x) noexcept {
  const std::uint32_t bits = x.bits, magnitude = (bits & 0x7fff) << 13;
  // the exponent moves to its place in fp32 by a product, which makes subnormal numbers right too
  const float value = magnitude < 0x0f800000 ? std::bit_cast<float>(magnitude) * 0x1p112f
                                             : std::bit_cast<float>(magnitude | 0x7f800000);
  return bits >> 15 != 0 ? -value : value;
}

}  // namespace
}  // namespace weldlm::cpu
