#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "cpu/vector.hpp"

// What moves floats between the lanes of registers.
namespace weldlm::cpu {
namespace {

// Lane l of the result is lane Source{}(l) of a, or of b where that is `lanes` or more.
template <class Source, std::size_t... lane>
inline Floats shuffle(Floats a, Floats b, Source, std::index_sequence<lane...>) noexcept {
  return __builtin_shufflevector(a, b, Source{}(static_cast<int>(lane))...);
}

template <class Source>
inline Floats shuffle(Floats a, Floats b, Source source) noexcept {
  return shuffle(a, b, source, std::make_index_sequence<static_cast<std::size_t>(lanes)>{});
}

// Of each four lanes: a0 b0 a1 b1
struct Low {
  constexpr int operator()(int lane) const {
    return lane / 4 * 4 + lane % 4 / 2 + lane % 2 * static_cast<int>(lanes);
  }
};

// a2 b2 a3 b3
struct High {
  constexpr int operator()(int lane) const { return Low{}(lane) + 2; }
};

// a0 a1 b0 b1
struct LowPairs {
  constexpr int operator()(int lane) const {
    return lane / 4 * 4 + lane % 2 + lane % 4 / 2 * static_cast<int>(lanes);
  }
};

// a2 a3 b2 b3
struct HighPairs {
  constexpr int operator()(int lane) const { return LowPairs{}(lane) + 2; }
};

// The even groups of `size` lanes of both, by turns
template <int size>
struct EvenGroups {
  constexpr int operator()(int lane) const {
    return lane / size % 2 == 0 ? lane : lane - size + static_cast<int>(lanes);
  }
};

template <int size>
struct OddGroups {
  constexpr int operator()(int lane) const { return EvenGroups<size>{}(lane) + size; }
};

// Each lane that of the other half of its group of 2 * size
template <int size>
struct Swapped {
  constexpr int operator()(int lane) const { return lane ^ size; }
};

inline void transpose_quads(Floats* rows) noexcept {
  const Floats low_0 = shuffle(rows[0], rows[1], Low{}), high_0 = shuffle(rows[0], rows[1], High{});
  const Floats low_2 = shuffle(rows[2], rows[3], Low{}), high_2 = shuffle(rows[2], rows[3], High{});
  rows[0] = shuffle(low_0, low_2, LowPairs{});
  rows[1] = shuffle(low_0, low_2, HighPairs{});
  rows[2] = shuffle(high_0, high_2, LowPairs{});
  rows[3] = shuffle(high_0, high_2, HighPairs{});
}

// Exchanges the groups of `size` lanes between rows that are `size` apart.
template <int size>
inline void transpose_groups(Floats* rows) noexcept {
  if constexpr (size < lanes) {
    for (int row = 0; row < lanes; ++row) {
      if (row / size % 2 != 0) continue;
      const Floats even = shuffle(rows[row], rows[row + size], EvenGroups<size>{});
      rows[row + size] = shuffle(rows[row], rows[row + size], OddGroups<size>{});
      rows[row] = even;
    }
    transpose_groups<2 * size>(rows);
  }
}

// rows[i][j] -> rows[j][i]
inline void transpose(Floats (&rows)[lanes]) noexcept {
  for (int row = 0; row < lanes; row += 4) transpose_quads(rows + row);
  transpose_groups<4>(rows);
}

template <int size = 1>
inline float highest_lane(Floats x) noexcept {
  if constexpr (size == lanes) {
    return x[0];
  } else {
    return highest_lane<2 * size>(max(x, shuffle(x, x, Swapped<size>{})));
  }
}

}  // namespace
}  // namespace weldlm::cpu
