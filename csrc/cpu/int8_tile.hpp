#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "cpu/int8_linear.hpp"
#include "cpu/packed_weight.hpp"
#include "cpu/quantize_row.hpp"
#include "cpu/tile_cover.hpp"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

// Products of weights in 8 bits and quantized activations. Activation is the type of the latter,
// Weights four neighbors along K for each channel of a unit, Sums the sums of a group's products.
namespace weldlm::cpu {
namespace {

#if defined(__AVX2__) && !defined(__AVX512VNNI__)

// vpmaddubsw would saturate; with 16 bits on both sides vpmaddwd is exact.
using Activation = std::int16_t;

inline std::int64_t group_size(std::int64_t depth) noexcept {
  return std::min<std::int64_t>(depth, 1 << 17);
}

// The most up to 15 bits for which sums of a group's products with -127 to 127 stay below 2^31.
inline std::int32_t most_of_activations(std::int64_t depth) noexcept {
  std::int32_t most = 127;
  for (std::int64_t share = group_size(depth); 2 * share <= 1 << 17 && most < 127 * 256; share *= 2)
    most *= 2;
  return most;
}

#else

using Activation = std::int8_t;

inline std::int64_t group_size(std::int64_t) noexcept { return int8_group; }
inline std::int32_t most_of_activations(std::int64_t) noexcept { return 127; }

#endif

#if defined(__AVX512VNNI__)

constexpr int registers_per_sum = 1;

struct Weights {
  __m512i quads;
};

struct Sums {
  __m512i quads;
};

inline Sums first_sums(std::int32_t offset) noexcept { return {_mm512_set1_epi32(offset)}; }

inline Weights load_weights(const std::uint8_t* source) noexcept {
  return {_mm512_loadu_si512(source)};
}

inline void add_products(Sums& sums, const Weights& weights, const Activation* four) noexcept {
  std::int32_t quad;
  std::memcpy(&quad, four, sizeof quad);
  sums.quads = _mm512_dpbusd_epi32(sums.quads, weights.quads, _mm512_set1_epi32(quad));
}

inline Bits total(const Sums& sums) noexcept { return (Bits)sums.quads; }

#elif defined(__AVX2__)

constexpr int registers_per_sum = 2;

struct Weights {
  __m256i low, high;  // of channels 0-3 and 4-7
};

struct Sums {
  __m256i low, high;  // a channel has two lanes
};

inline Sums first_sums(std::int32_t offset) noexcept {
  const __m256i pairs = _mm256_set1_epi64x(static_cast<std::uint32_t>(offset));
  return {pairs, pairs};
}

inline Weights load_weights(const std::uint8_t* source) noexcept {
  const auto* parts = reinterpret_cast<const __m128i*>(source);
  return {_mm256_cvtepu8_epi16(_mm_loadu_si128(parts)),
          _mm256_cvtepu8_epi16(_mm_loadu_si128(parts + 1))};
}

inline void add_products(Sums& sums, const Weights& weights, const Activation* four) noexcept {
  std::int64_t quad;
  std::memcpy(&quad, four, sizeof quad);
  const __m256i activations = _mm256_set1_epi64x(quad);
  sums.low = _mm256_add_epi32(sums.low, _mm256_madd_epi16(weights.low, activations));
  sums.high = _mm256_add_epi32(sums.high, _mm256_madd_epi16(weights.high, activations));
}

inline Bits total(const Sums& sums) noexcept {
  // channels 0 1 4 5 2 3 6 7
  const __m256i pairs = _mm256_hadd_epi32(sums.low, sums.high);
  return (Bits)_mm256_permute4x64_epi64(pairs, _MM_SHUFFLE(3, 1, 2, 0));
}

#else

constexpr int registers_per_sum = 1;

struct Weights {
  const std::uint8_t* bytes;
};

struct Sums {
  std::uint32_t channels[lanes];
};

inline Sums first_sums(std::int32_t offset) noexcept {
  Sums sums;
  for (std::uint32_t& sum : sums.channels) sum = static_cast<std::uint32_t>(offset);
  return sums;
}

inline Weights load_weights(const std::uint8_t* source) noexcept { return {source}; }

inline void add_products(Sums& sums, const Weights& weights, const Activation* four) noexcept {
  for (std::int64_t channel = 0; channel < lanes; ++channel)
    for (std::int64_t j = 0; j < 4; ++j)
      sums.channels[channel] +=
          static_cast<std::uint32_t>(weights.bytes[4 * channel + j] * four[j]);
}

inline Bits total(const Sums& sums) noexcept {
  Bits bits;
  std::memcpy(&bits, sums.channels, sizeof bits);
  return bits;
}

#endif

// Whether results and weights find room beside the sums of the largest tile.
constexpr bool has_spare_registers = vector_bytes == 64;

// Where a group begins in the rows and units of a tile.
template <int units>
struct Int8Group {
  const std::uint8_t* weights[units];
  const Activation* activations;
  const std::int32_t* offsets;
  std::int64_t depth, groups;  // from a row to the next one, of activations and of offsets
  std::int64_t length;
};

// Adds the products of the four neighbors along K that begin at k.
template <int num_rows, int units>
inline void add_four(Sums (&sums)[num_rows][units], const Int8Group<units>& group,
                     std::int64_t k) noexcept {
#pragma GCC unroll 4
  for (int u = 0; u < units; ++u) {
    const Weights part = load_weights(group.weights[u] + k * panel_channels);
#pragma GCC unroll 8
    for (int r = 0; r < num_rows; ++r)
      add_products(sums[r][u], part, group.activations + r * group.depth + k);
  }
}

template <int num_rows, int units>
inline void sum_group(const Int8Group<units>& group, Bits (&totals)[num_rows][units]) noexcept {
  // all loops over an array of sums are unrolled, since that is what keeps them in registers
  Sums sums[num_rows][units];
#pragma GCC unroll 8
  for (int r = 0; r < num_rows; ++r) {
#pragma GCC unroll 4
    for (int u = 0; u < units; ++u) sums[r][u] = first_sums(group.offsets[r * group.groups]);
  }
  // four rows and more are bound by instructions, of which an unrolled loop has fewer
  if (has_spare_registers && num_rows > 3 && group.length == int8_group) {
#pragma GCC unroll 16
    for (std::int64_t k = 0; k < int8_group; k += 4) add_four(sums, group, k);
  } else {
#pragma GCC unroll 1
    for (std::int64_t k = 0; k < group.length; k += 4) add_four(sums, group, k);
  }
#pragma GCC unroll 8
  for (int r = 0; r < num_rows; ++r) {
#pragma GCC unroll 4
    for (int u = 0; u < units; ++u) totals[r][u] = total(sums[r][u]);
  }
}

// Sums that fill the registers stay in them only where nothing else lives while they grow, hence
// in a function of its own.
template <int num_rows, int units>
[[gnu::noinline]] void sum_group_apart(const Int8Group<units>& group,
                                       Bits (&totals)[num_rows][units]) noexcept {
  sum_group(group, totals);
}

struct Int8Tile {
  const Int8Linear& linear;
  const Int8Rows& rows;

  template <int num_rows, int units>
  void run(std::int64_t row, std::int64_t unit) noexcept {
    const std::int64_t depth = int8_depth(linear.in_features);
    const std::int64_t size = group_size(depth), groups = (depth + size - 1) / size;
    const float* scales = rows.scales + row * groups;
    Floats y[num_rows][units] = {};
    for (std::int64_t group = 0; group < groups; ++group) {
      Bits totals[num_rows][units];
      const Int8Group<units> part = group_at<units>(row, unit, group);
      if constexpr (has_spare_registers)
        sum_group(part, totals);
      else
        sum_group_apart(part, totals);
#pragma GCC unroll 8
      for (int r = 0; r < num_rows; ++r) {
#pragma GCC unroll 4
        for (int u = 0; u < units; ++u)
          y[r][u] += __builtin_convertvector((Ints)totals[r][u], Floats) *
                     scales[r * groups + group];
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < num_rows; ++r) {
#pragma GCC unroll 4
      for (int u = 0; u < units; ++u) finish(row + r, unit + u, y[r][u]);
    }
  }

  template <int units>
  Int8Group<units> group_at(std::int64_t row, std::int64_t unit,
                            std::int64_t group) const noexcept {
    const std::int64_t depth = int8_depth(linear.in_features), size = group_size(depth);
    const std::int64_t groups = (depth + size - 1) / size, begin = group * size;
    Int8Group<units> part;
#pragma GCC unroll 4
    for (int u = 0; u < units; ++u)
      part.weights[u] = linear.values + (unit + u) / units_per_panel * (depth * panel_channels) +
                        (unit + u) % units_per_panel * (lanes * 4) + begin * panel_channels;
    part.activations = reinterpret_cast<const Activation*>(rows.values) + row * depth + begin;
    part.offsets = rows.offsets + row * groups + group;
    part.depth = depth;
    part.groups = groups;
    part.length = std::min(size, depth - begin);
    return part;
  }

  void finish(std::int64_t row, std::int64_t unit, Floats y) const noexcept {
    const std::int64_t channel = unit * lanes, count = linear.out_features - channel;
    if (count <= 0) return;
    y *= load(linear.scales + channel);
    if (linear.bias != nullptr) y += load_channels(linear.bias + channel, count);
    store_channels(linear.y + row * linear.out_features + channel, count, y);
  }
};

void quantize_int8_rows(const Int8Linear& linear, const Int8Rows& rows, std::int64_t begin,
                        std::int64_t end) noexcept {
  const std::int64_t in_features = linear.in_features, depth = int8_depth(in_features);
  const std::int64_t size = group_size(depth), groups = (depth + size - 1) / size;
  const std::int32_t most = most_of_activations(depth);
  for (std::int64_t row = begin; row < end; ++row) {
    Activation* values = reinterpret_cast<Activation*>(rows.values) + row * depth;
    const float* x = linear.x + row * in_features;
    for (std::int64_t group = 0; group < groups; ++group) {
      const std::int64_t k = group * size, count = std::min(size, in_features - k);
      const GroupScale found = quantize_group(x + k, count, most, values + k);
      rows.scales[row * groups + group] = found.scale;
      rows.offsets[row * groups + group] = -128 * found.sum;
    }
    for (std::int64_t k = in_features; k < depth; ++k) values[k] = 0;
  }
}

void multiply_int8(const Int8Linear& linear, const Int8Rows& rows, std::int64_t begin,
                   std::int64_t end) noexcept {
  cover<registers_per_sum>(Int8Tile{linear, rows}, linear.num_rows, begin, end);
}

constexpr Int8Kernel int8_kernel{quantize_int8_rows, multiply_int8};

}  // namespace
}  // namespace weldlm::cpu
