#pragma once

#include <cstdint>

#include "cpu/paged_attention.hpp"
#include "cpu/shuffle.hpp"
#include "cpu/vector.hpp"
#include "cpu/vector_tanh.hpp"

// The softmax of attention for one row of scores at a time, as keys come in tiles (Milakov and
// Gimelshein 2018, arXiv:1805.02867).
namespace weldlm::cpu {
namespace {

constexpr float minus_infinity = -__builtin_inff();
constexpr std::int64_t vectors_per_tile = keys_per_tile / lanes;

using TileRow = Floats[vectors_per_tile];

struct RowOfTile {
  std::int64_t head;
  std::int64_t position;   // of the query among the keys
  std::int64_t first_key;  // of the tile
  KeyRange visible;
};

// 0, 1, 2, ...
inline Floats lane_numbers() noexcept {
  Floats numbers{};
  for (std::int64_t lane = 0; lane < lanes; ++lane) numbers[lane] = static_cast<float>(lane);
  return numbers;
}

// biases[clamp(distance + lane, -reach, reach) + reach]
inline Floats biases_from(const float* biases, std::int64_t reach, std::int64_t distance) noexcept {
  if (distance >= reach) return broadcast(biases[2 * reach]);
  if (distance + lanes - 1 <= -reach) return broadcast(biases[0]);
  if (distance >= -reach && distance + lanes - 1 <= reach) return load(biases + distance + reach);
  Floats x{};
  for (std::int64_t lane = 0; lane < lanes; ++lane) {
    const std::int64_t from_first = distance + lane + reach;
    x[lane] = biases[from_first < 0 ? 0 : from_first > 2 * reach ? 2 * reach : from_first];
  }
  return x;
}

inline void add_biases(const ScoreOptions& options, const RowOfTile& row, TileRow& scores) {
  const std::int64_t distance = row.first_key - row.position;
  if (options.bias_table != nullptr) {
    const float* biases = options.bias_table + row.head * (2 * options.bias_reach + 1);
    for (std::int64_t i = 0; i < vectors_per_tile; ++i)
      scores[i] += biases_from(biases, options.bias_reach, distance + i * lanes);
  }
  if (options.alibi_slopes != nullptr) {
    const float slope = options.alibi_slopes[row.head];
    for (std::int64_t i = 0; i < vectors_per_tile; ++i)
      scores[i] -=
          slope * magnitude(lane_numbers() + static_cast<float>(distance + i * lanes));
  }
}

inline void cap(float softcap, TileRow& scores) noexcept {
  for (std::int64_t i = 0; i < vectors_per_tile; ++i)
    scores[i] = softcap * tanh(scores[i] / softcap);
}

inline void hide(const RowOfTile& row, TileRow& scores) noexcept {
  const std::int64_t begin = row.visible.begin - row.first_key;
  const std::int64_t end = row.visible.end - row.first_key;
  if (begin <= 0 && end >= keys_per_tile) return;
  for (std::int64_t i = 0; i < vectors_per_tile; ++i) {
    const Floats key = lane_numbers() + static_cast<float>(i * lanes);
    const Floats seen = key < static_cast<float>(end) ? scores[i] : broadcast(minus_infinity);
    scores[i] = key >= static_cast<float>(begin) ? seen : broadcast(minus_infinity);
  }
}

inline void multiply(const float* factors, TileRow& x) noexcept {
  for (std::int64_t i = 0; i < vectors_per_tile; ++i) x[i] *= load(factors + i * lanes);
}

inline float highest_of(const TileRow& scores) noexcept {
  Floats most = scores[0];
  for (std::int64_t i = 1; i < vectors_per_tile; ++i) most = max(scores[i], most);
  return highest_lane(most);
}

// What a new highest score makes of sums that are relative to the old one, and the shift of new
// exponents; a row that has seen no key is shifted by 0.
struct Rescaling {
  float shift, factor;
};

inline Rescaling raise_highest(float found, float& highest) noexcept {
  const float before = highest;
  // NaN is not above anything, but makes weights NaN all the same
  highest = found > before ? found : before;
  const float shift = highest == minus_infinity ? 0 : highest;
  return {shift, exp_nonpositive(broadcast(before - shift))[0]};
}

}  // namespace
}  // namespace weldlm::cpu
