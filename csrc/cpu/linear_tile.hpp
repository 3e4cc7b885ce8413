#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/linear.hpp"
#include "cpu/packed_weight.hpp"
#include "cpu/tile_cover.hpp"

namespace weldlm::cpu {
namespace {

// Products that are added before their sum joins the others: rounding then grows with the block and
// the number of blocks instead of with K.
constexpr std::int64_t sum_block = 256;

struct LinearTile {
  const Linear& linear;

  template <int num_rows, int units>
  void run(std::int64_t row, std::int64_t unit) noexcept {
    const std::int64_t depth = linear.in_features;
    const float* x = linear.x + row * depth;
    const float* weight = linear.weight + unit / units_per_panel * (depth * panel_channels) +
                          unit % units_per_panel * lanes;
    // all loops over an array of sums are unrolled, since that is what keeps them in registers
    Floats y[num_rows][units] = {};
    for (std::int64_t begin = 0; begin < depth; begin += sum_block) {
      Floats sums[num_rows][units] = {};
      const std::int64_t end = std::min(begin + sum_block, depth);
      for (std::int64_t k = begin; k < end; ++k) {
        // later rows find the weight in a cache, so that memory is free for the next panel
        if (row > 0) __builtin_prefetch(weight + (depth + k) * panel_channels, 0, 2);
        Floats part[units];
#pragma GCC unroll 4
        for (int u = 0; u < units; ++u) part[u] = load(weight + k * panel_channels + u * lanes);
#pragma GCC unroll 8
        for (int r = 0; r < num_rows; ++r) {
#pragma GCC unroll 4
          for (int u = 0; u < units; ++u) sums[r][u] += part[u] * x[r * depth + k];
        }
      }
#pragma GCC unroll 8
      for (int r = 0; r < num_rows; ++r) {
#pragma GCC unroll 4
        for (int u = 0; u < units; ++u) y[r][u] += sums[r][u];
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < num_rows; ++r) {
#pragma GCC unroll 4
      for (int u = 0; u < units; ++u) finish(row + r, unit + u, y[r][u]);
    }
  }

  void finish(std::int64_t row, std::int64_t unit, Floats y) const noexcept {
    const std::int64_t channel = unit * lanes, count = linear.out_features - channel;
    if (count <= 0) return;
    if (linear.bias != nullptr) y += load_channels(linear.bias + channel, count);
    store_channels(linear.y + row * linear.out_features + channel, count, y);
  }
};

void multiply_panels(const Linear& linear, std::int64_t begin, std::int64_t end) noexcept {
  cover<1>(LinearTile{linear}, linear.num_rows, begin, end);
}

}  // namespace
}  // namespace weldlm::cpu
