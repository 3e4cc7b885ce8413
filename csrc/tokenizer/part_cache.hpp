// The best segmentation of short parts of text seen before, for sums that start at a base: rounding
// cannot change it as long as the base is not larger than the entry says.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "tokenizer/metaspace_cuts.hpp"

namespace weldlm {

class PartCache {
 public:
  static constexpr std::size_t max_part_bytes = 16;  // without U+2581 in front
  static constexpr std::size_t max_ids = 6;

  struct Key {
    std::uint64_t low = 0;
    std::uint64_t high = 0;
    std::uint8_t shape = 0;  // the size, and whether U+2581 is in front; 0 is no key
  };

  struct Entry {
    Key key;
    std::uint8_t num_ids = 0;
    float largest_base = -1;  // negative: the ids are not known for any base
    std::array<std::uint32_t, max_ids> ids{};

    std::span<const std::uint32_t> tokens() const noexcept { return std::span(ids).first(num_ids); }
  };

  // The key of a part; shape 0 where it is too long.
  static Key key_of(std::string_view part) noexcept {
    Key key;
    const bool has_prefix = has_metaspace(part, 0);
    if (has_prefix) part.remove_prefix(metaspace.size());
    if (part.size() > max_part_bytes) return key;
    std::memcpy(&key.low, part.data(), std::min<std::size_t>(part.size(), 8));
    if (part.size() > 8) std::memcpy(&key.high, part.data() + 8, part.size() - 8);
    key.shape = static_cast<std::uint8_t>(part.size() << 1 | (has_prefix ? 1 : 0));
    return key;
  }

  const Entry* find(const Key& key) const noexcept {
    for (const Entry& entry : sets_[set_index(key)]) {
      if (entry.key.low == key.low && entry.key.high == key.high && entry.key.shape == key.shape) {
        return &entry;
      }
    }
    return nullptr;
  }

  // Of the two entries of a set the older one makes room.
  const Entry* insert(const Entry& entry) noexcept {
    auto& set = sets_[set_index(entry.key)];
    set[1] = set[0];
    set[0] = entry;
    return &set[0];
  }

 private:
  static constexpr int set_bits = 13;

  static std::size_t set_index(const Key& key) noexcept {
    constexpr std::uint64_t odd = 0x9E3779B97F4A7C15u;
    const std::uint64_t mixed = (key.low ^ (key.high * odd) ^ key.shape) * odd;
    return (mixed ^ mixed >> 32) * odd >> (64 - set_bits);
  }

  std::vector<std::array<Entry, 2>> sets_ =
      std::vector<std::array<Entry, 2>>(std::size_t{1} << set_bits);
};

}  // namespace weldlm
