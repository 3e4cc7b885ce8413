#pragma once

#include <cstdint>
#include <cstring>

#include "cpu/fp16.hpp"
#include "cpu/int4_linear.hpp"
#include "cpu/packed_weight.hpp"
#include "cpu/quantize_row.hpp"
#include "cpu/tile_cover.hpp"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

// Products of weights in 4 bits and quantized activations: add_block adds to the sums of `num_rows`
// rows, `stride` activations apart, those of a block of 32 along K for the channels of one unit.
namespace weldlm::cpu {
namespace {

constexpr std::int64_t row_bytes = panel_channels * 4;  // those of one t
constexpr int rows_per_block = 4;
constexpr std::int64_t block_bytes = rows_per_block * row_bytes;
constexpr std::int64_t half_block = int4_block / 2;

#if defined(__AVX2__)
inline std::int32_t load_quad(const std::int8_t* four) noexcept {
  std::int32_t quad;
  std::memcpy(&quad, four, sizeof quad);
  return quad;
}
#endif

#if defined(__AVX512VNNI__)

template <int num_rows>
inline void add_block(Bits (&sums)[num_rows], const std::uint8_t* weights,
                      const std::int8_t* activations, std::int64_t stride) noexcept {
  const __m512i mask = _mm512_set1_epi8(15);
#pragma GCC unroll 4
  for (int t = 0; t < rows_per_block; ++t) {
    const __m512i bytes = _mm512_loadu_si512(weights + t * row_bytes);
    const __m512i low = _mm512_and_si512(bytes, mask);
    const __m512i high = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), mask);
#pragma GCC unroll 8
    for (int r = 0; r < num_rows; ++r) {
      const std::int8_t* four = activations + r * stride + 4 * t;
      auto& sum = reinterpret_cast<__m512i&>(sums[r]);
      sum = _mm512_dpbusd_epi32(sum, low, _mm512_set1_epi32(load_quad(four)));
      sum = _mm512_dpbusd_epi32(sum, high, _mm512_set1_epi32(load_quad(four + half_block)));
    }
  }
}

#elif defined(__AVX2__)

// Within a block 16 bits hold the sums: a pair of products is at most 2 * 15 * 127, and eight pairs
// stay below 2^15.
template <int num_rows>
inline void add_block(Bits (&sums)[num_rows], const std::uint8_t* weights,
                      const std::int8_t* activations, std::int64_t stride) noexcept {
  const __m256i mask = _mm256_set1_epi8(15);
  __m256i pairs[num_rows] = {};
#pragma GCC unroll 4
  for (int t = 0; t < rows_per_block; ++t) {
    const auto* source = reinterpret_cast<const __m256i*>(weights + t * row_bytes);
    const __m256i bytes = _mm256_loadu_si256(source);
    const __m256i low = _mm256_and_si256(bytes, mask);
    const __m256i high = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), mask);
#pragma GCC unroll 8
    for (int r = 0; r < num_rows; ++r) {
      const std::int8_t* four = activations + r * stride + 4 * t;
      const __m256i first = _mm256_maddubs_epi16(low, _mm256_set1_epi32(load_quad(four)));
      const __m256i second =
          _mm256_maddubs_epi16(high, _mm256_set1_epi32(load_quad(four + half_block)));
      pairs[r] = _mm256_add_epi16(pairs[r], _mm256_add_epi16(first, second));
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < num_rows; ++r)
    sums[r] += (Bits)_mm256_madd_epi16(pairs[r], _mm256_set1_epi16(1));
}

#else

template <int num_rows>
inline void add_block(Bits (&sums)[num_rows], const std::uint8_t* weights,
                      const std::int8_t* activations, std::int64_t stride) noexcept {
  for (int t = 0; t < rows_per_block; ++t)
    for (int r = 0; r < num_rows; ++r)
      for (std::int64_t channel = 0; channel < lanes; ++channel)
        for (std::int64_t j = 0; j < 4; ++j) {
          const std::int32_t byte = weights[t * row_bytes + 4 * channel + j];
          const std::int8_t* activation = activations + r * stride + 4 * t + j;
          sums[r][channel] += static_cast<std::uint32_t>((byte & 15) * activation[0] +
                                                         (byte >> 4) * activation[half_block]);
        }
}

#endif

inline Floats load_fp16(const std::uint16_t* source) noexcept {
#if defined(__AVX512F__)
  return (Floats)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(source)));
#elif defined(__AVX2__)
  return (Floats)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(source)));
#else
  Floats x;
  for (std::int64_t lane = 0; lane < lanes; ++lane) x[lane] = from_fp16(Fp16{source[lane]});
  return x;
#endif
}

template <bool has_minimums>
struct Int4Tile {
  const Int4Linear& linear;
  const Int4Rows& rows;

  template <int num_rows, int units>
  void run(std::int64_t row, std::int64_t unit) noexcept {
    const std::int64_t depth = linear.in_features, size = linear.group_size;
    const std::int64_t groups = depth / size;
    const std::int8_t* activations = rows.values + row * depth;
    const float* activation_scales = rows.scales + row * groups;
    const std::int32_t* offsets = rows.offsets + row * groups;
    const float* totals = rows.totals + row * groups;
    // all loops over an array of sums are unrolled, since that is what keeps them in registers
    Floats y[units][num_rows] = {};
    for (std::int64_t group = 0; group < groups; ++group) {
#pragma GCC unroll 4
      for (int u = 0; u < units; ++u) {
        const std::int64_t at = place(unit + u, groups) + group * panel_channels;
        const std::uint8_t* weights = linear.values + 4 * place(unit + u, depth / 8) +
                                      group * (size / int4_block) * block_bytes;
        Bits sums[num_rows];
#pragma GCC unroll 8
        for (int r = 0; r < num_rows; ++r) sums[r] = first_sum(offsets[r * groups + group]);
        for (std::int64_t k = 0; k < size; k += int4_block)
          add_block(sums, weights + k / int4_block * block_bytes, activations + group * size + k,
                    depth);
        const Floats scales = load_fp16(linear.scales + at);
#pragma GCC unroll 8
        for (int r = 0; r < num_rows; ++r)
          y[u][r] += __builtin_convertvector((Ints)sums[r], Floats) *
                     (scales * activation_scales[r * groups + group]);
        if constexpr (has_minimums) {
          const Floats minimums = load_fp16(linear.minimums + at);
#pragma GCC unroll 8
          for (int r = 0; r < num_rows; ++r) y[u][r] += minimums * totals[r * groups + group];
        }
      }
    }
#pragma GCC unroll 4
    for (int u = 0; u < units; ++u) {
#pragma GCC unroll 8
      for (int r = 0; r < num_rows; ++r) finish(row + r, unit + u, y[u][r]);
    }
  }

  // What a minimum of -8 scales takes from a group.
  static Bits first_sum(std::int32_t offset) noexcept {
    return has_minimums ? Bits{} : Bits{} + static_cast<std::uint32_t>(offset);
  }

  // Where a unit begins in an array [panels, length, 16].
  static std::int64_t place(std::int64_t unit, std::int64_t length) noexcept {
    return unit / units_per_panel * (length * panel_channels) + unit % units_per_panel * lanes;
  }

  void finish(std::int64_t row, std::int64_t unit, Floats y) const noexcept {
    const std::int64_t channel = unit * lanes, count = linear.out_features - channel;
    if (count <= 0) return;
    if (linear.bias != nullptr) y += load_channels(linear.bias + channel, count);
    store_channels(linear.y + row * linear.out_features + channel, count, y);
  }
};

void quantize_int4_rows(const Int4Linear& linear, const Int4Rows& rows, std::int64_t begin,
                        std::int64_t end) noexcept {
  const std::int64_t size = linear.group_size, groups = linear.in_features / size;
  for (std::int64_t group = begin * groups; group < end * groups; ++group) {
    const GroupScale found =
        quantize_group(linear.x + group * size, size, 127, rows.values + group * size);
    rows.scales[group] = found.scale;
    rows.offsets[group] = -8 * found.sum;
    rows.totals[group] = found.scale * static_cast<float>(found.sum);
  }
}

void multiply_int4(const Int4Linear& linear, const Int4Rows& rows, std::int64_t begin,
                   std::int64_t end) noexcept {
  // one each of integers and of fp32, and what two units of weights and scales take besides
  constexpr int registers = 3;
  if (linear.minimums == nullptr)
    cover<registers>(Int4Tile<false>{linear, rows}, linear.num_rows, begin, end);
  else
    cover<registers>(Int4Tile<true>{linear, rows}, linear.num_rows, begin, end);
}

constexpr Int4Kernel int4_kernel{quantize_int4_rows, multiply_int4};

}  // namespace
}  // namespace weldlm::cpu
