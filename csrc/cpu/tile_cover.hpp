#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/packed_weight.hpp"
#include "cpu/vector.hpp"

// How tiles of rows x output channels cover the result of a linear layer. A tile keeps its sums in
// registers; its channels are counted in units of one vector register of fp32, and no tile is wider
// than a panel, so that a weight is one stream from memory. Each sum is taken in the same order in
// tiles of all sizes, so that a row of the result does not depend on the others.
namespace weldlm::cpu {
namespace {

constexpr int units_per_panel = panel_channels / lanes;
constexpr int most_rows = 6;

// The widest tile whose sums stay in registers; `registers` is what one sum of a unit takes.
constexpr int units_of_tile(int rows, int registers) noexcept {
  const int budget = vector_bytes == 64 ? 24 : 12;
  for (int units = units_per_panel; units > 1; units /= 2)
    if (rows * units * registers <= budget) return units;
  return 1;
}

template <int rows, int units, class Tile>
void cover_units(Tile& tile, std::int64_t row, std::int64_t begin, std::int64_t end) noexcept {
  for (; begin + units <= end; begin += units) tile.template run<rows, units>(row, begin);
  if constexpr (units > 1) cover_units<rows, units / 2>(tile, row, begin, end);
}

// Covers `rows` rows, at most most_rows of them.
template <int registers, class Tile, int rows = most_rows>
void cover_rows(Tile& tile, std::int64_t row, std::int64_t num_rows, std::int64_t begin,
                std::int64_t end) noexcept {
  if (num_rows == rows)
    cover_units<rows, units_of_tile(rows, registers)>(tile, row, begin, end);
  else if constexpr (rows > 1)
    cover_rows<registers, Tile, rows - 1>(tile, row, num_rows, begin, end);
}

// Calls tile.run<rows, units>(row, unit) for tiles that cover all rows of the panels [begin, end).
template <int registers, class Tile>
void cover(Tile tile, std::int64_t num_rows, std::int64_t begin, std::int64_t end) noexcept {
  const std::int64_t count = (num_rows + most_rows - 1) / most_rows;
  for (std::int64_t panel = begin; panel < end; ++panel)
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t row = i * num_rows / count, unit = panel * units_per_panel;
      cover_rows<registers>(tile, row, (i + 1) * num_rows / count - row, unit,
                            unit + units_per_panel);
    }
}

inline Floats load_channels(const float* source, std::int64_t count) noexcept {
  return count >= lanes ? load(source) : load_first(source, count, 0);
}

inline void store_channels(float* target, std::int64_t count, Floats x) noexcept {
  if (count >= lanes) return store(target, x);
  store_first(target, count, x);
}

}  // namespace
}  // namespace weldlm::cpu
