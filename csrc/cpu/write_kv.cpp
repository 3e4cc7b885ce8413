#include "cpu/write_kv.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "cpu/fp16.hpp"
#include "cpu/parallel.hpp"

namespace weldlm::cpu {
namespace {

// Elements that are worth a thread: about ten times what starting one costs.
constexpr std::int64_t elements_per_thread = 32768;

// To the nearest fp16 number, of two the even one.
std::uint16_t to_fp16(float x) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000);
  const std::uint32_t magnitude = bits & 0x7fffffff;
  std::uint32_t result;
  if (magnitude > 0x7f800000) {
    result = 0x7e00;  // NaN
  } else if (magnitude >= 0x477ff000) {
    result = 0x7c00;  // rounds to 2^16 or more, infinity
  } else if (magnitude < 0x38800000) {
    // below 2^-14 fp16 counts in 2^-24, as fp32 does from 1/2 on
    result = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000;
  } else {
    result = (magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13;
  }
  return static_cast<std::uint16_t>(sign | result);
}

// The scale as the cache keeps it.
float store_scale(const PagedCache& cache, std::int64_t place, float scale) noexcept {
  if (!cache.has_fp16_scale) return static_cast<float*>(cache.scale)[place] = scale;
  Fp16& stored = static_cast<Fp16*>(cache.scale)[place];
  stored.bits = to_fp16(scale);
  return from_fp16(stored);
}

float largest_magnitude(const float* x, std::int64_t size) noexcept {
  float most = 0;
  bool has_nan = false;
  for (std::int64_t i = 0; i < size; ++i) {
    const float magnitude = std::abs(x[i]);
    has_nan |= std::isnan(magnitude);
    most = magnitude > most ? magnitude : most;
  }
  return has_nan ? std::numeric_limits<float>::quiet_NaN() : most;
}

void quantize(const float* x, std::int64_t size, float scale, std::int8_t* steps) noexcept {
  // adding 1.5 * 2^23 rounds to an integer
  constexpr float round_to_integer = 12582912.0f, most = 127;
  const float divisor = scale == 0 ? 1 : scale;
  for (std::int64_t i = 0; i < size; ++i) {
    const float step = x[i] / divisor;
    const float within = step > most ? most : step < -most ? -most : step;
    // NaN has no step
    const float rounded = within == within ? within + round_to_integer - round_to_integer : 0;
    steps[i] = static_cast<std::int8_t>(rounded);
  }
}

void write_head(const CacheWrite& write, std::int64_t token, std::int64_t head) noexcept {
  const PagedCache& cache = write.cache;
  const std::int64_t slot = write.slots[token];
  const std::int64_t block = slot / write.block_size, place = slot % write.block_size;
  const float* x = write.rows + token * write.token_stride + head * write.head_stride;
  const std::int64_t first =
      block * cache.block_stride + place * cache.token_stride + head * cache.head_stride;
  if (write.element == CacheElement::fp32) {
    std::copy_n(x, write.head_dim, static_cast<float*>(cache.data) + first);
    return;
  }
  const std::int64_t scale_place = block * cache.scale_block_stride +
                                   place * cache.scale_token_stride +
                                   head * cache.scale_head_stride;
  const float scale = store_scale(cache, scale_place, largest_magnitude(x, write.head_dim) / 127);
  quantize(x, write.head_dim, scale, static_cast<std::int8_t*>(cache.data) + first);
}

}  // namespace

bool has_slots(const CacheWrite& write) noexcept {
  const std::int64_t num_slots = write.num_blocks * write.block_size;
  return std::all_of(write.slots, write.slots + write.num_tokens,
                     [=](std::int64_t slot) { return slot >= -1 && slot < num_slots; });
}

void write_cache(const CacheWrite& write) noexcept {
  const std::int64_t grain = 1 + elements_per_thread / (write.num_kv_heads * write.head_dim + 1);
  parallel_for(0, write.num_tokens, grain, [&](std::int64_t begin, std::int64_t end) noexcept {
    for (std::int64_t token = begin; token < end; ++token) {
      if (write.slots[token] < 0) continue;
      for (std::int64_t head = 0; head < write.num_kv_heads; ++head) write_head(write, token, head);
    }
  });
}

}  // namespace weldlm::cpu
