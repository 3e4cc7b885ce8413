#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>

#include "cpu/shuffle.hpp"
#include "cpu/vector.hpp"

// Activations as integers with one scale for a group of neighbors in a row.
namespace weldlm::cpu {
namespace {

using Ints [[gnu::vector_size(vector_bytes)]] = std::int32_t;

template <int size>
inline Ints swapped(Ints x) noexcept {
  return (Ints)shuffle((Floats)x, (Floats)x, Swapped<size>{});
}

struct GroupScale {
  float scale;
  std::int32_t sum;  // of the integers
};

inline Ints larger(Ints x, Ints y) noexcept { return x > y ? x : y; }

template <int size = 1>
inline std::int32_t largest_lane(Ints x) noexcept {
  if constexpr (size == lanes)
    return x[0];
  else
    return largest_lane<2 * size>(larger(x, swapped<size>(x)));
}

template <int size = 1>
inline std::int32_t sum_of_lanes(Ints x) noexcept {
  if constexpr (size == lanes)
    return x[0];
  else
    return sum_of_lanes<2 * size>(x + swapped<size>(x));
}

// The largest magnitude; infinity or NaN where an element is not finite. Magnitudes are ordered as
// their bits are, NaN behind infinity.
inline float magnitude(const float* x, std::int64_t size) noexcept {
  constexpr std::int32_t without_sign = 0x7fffffff;
  Ints most{};
  std::int64_t i = 0;
  for (; i + lanes <= size; i += lanes) most = larger(most, (Ints)load(x + i) & without_sign);
  if (i < size) most = larger(most, (Ints)load_first(x + i, size - i, 0) & without_sign);
  return std::bit_cast<float>(largest_lane(most));
}

inline Ints round_to_ints(Floats x) noexcept {
  // adding 1.5 * 2^23 rounds to an integer
  constexpr float round_to_integer = 12582912.0f;
  return __builtin_convertvector((x + round_to_integer) - round_to_integer, Ints);
}

// Writes round(x / scale) with scale = max |x| / most. A group with a value that is not finite has
// the scale NaN; one whose values are all below 2^-100 counts as zeros.
template <class Value>
inline GroupScale quantize_group(const float* x, std::int64_t size, std::int32_t most,
                                 Value* values) noexcept {
  using Values [[gnu::vector_size(sizeof(Value) * lanes)]] = Value;
  const float largest = magnitude(x, size), levels = static_cast<float>(most);
  const float inverse = largest >= 0x1p-100f ? levels / largest : 0.0f;
  const bool is_finite = largest <= std::numeric_limits<float>::max();
  Ints sums{};
  std::int64_t i = 0;
  for (; i + lanes <= size && is_finite; i += lanes) {
    const Ints integers = round_to_ints(load(x + i) * inverse);
    const Values part = __builtin_convertvector(integers, Values);
    std::memcpy(values + i, &part, sizeof part);
    sums += integers;
  }
  if (i < size && is_finite) {
    const Ints integers = round_to_ints(load_first(x + i, size - i, 0) * inverse);
    for (std::int64_t lane = 0; lane < size - i; ++lane)
      values[i + lane] = static_cast<Value>(integers[lane]);
    sums += integers;
  }
  if (!is_finite) {
    std::memset(values, 0, static_cast<std::size_t>(size) * sizeof(Value));
    return {std::numeric_limits<float>::quiet_NaN(), 0};
  }
  return {inverse == 0 ? 0.0f : largest / levels, sum_of_lanes(sums)};
}

}  // namespace
}  // namespace weldlm::cpu
