// Ids of short words seen before: fixed memory, two words a set, the older one makes room.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace weldlm {

class WordCache {
 public:
  static constexpr std::size_t max_word_bytes = 15;
  static constexpr std::size_t max_ids = 3;

  static bool accepts(std::string_view word) noexcept {
    return !word.empty() && word.size() <= max_word_bytes;
  }

  // Appends the ids of an accepted word and says whether it was known.
  bool append_ids(std::string_view word, std::vector<std::uint32_t>& ids) const {
    const Key key = key_of(word);
    for (const Entry& entry : sets_[set_index(key)].entries) {
      if (entry.low == key.low && entry.high == key.high && entry.size == key.size) {
        for (std::size_t i = 0; i < entry.num_ids; ++i) ids.push_back(entry.ids[i]);
        return true;
      }
    }
    return false;
  }

  // Remembers an accepted word that the cache does not hold; more than max_ids ids are ignored.
  void insert(std::string_view word, std::span<const std::uint32_t> ids) noexcept {
    if (ids.size() > max_ids) return;
    const Key key = key_of(word);
    Set& set = sets_[set_index(key)];
    set.entries[1] = set.entries[0];
    Entry& entry = set.entries[0];
    entry.low = key.low;
    entry.high = key.high;
    entry.size = key.size;
    entry.num_ids = static_cast<std::uint8_t>(ids.size());
    std::copy(ids.begin(), ids.end(), entry.ids.begin());
  }

  void clear() noexcept { sets_.assign(num_sets, Set{}); }

 private:
  static constexpr int set_bits = 14;
  static constexpr std::size_t num_sets = std::size_t{1} << set_bits;  // 1 MiB in all

  // Distinct words have distinct keys: the size tells how the two loads overlap.
  struct Key {
    std::uint64_t low = 0;
    std::uint64_t high = 0;
    std::uint8_t size = 0;
  };

  struct Entry {
    std::uint64_t low = 0;
    std::uint64_t high = 0;
    std::array<std::uint32_t, max_ids> ids{};
    std::uint8_t size = 0;  // of the word; 0: the entry is free
    std::uint8_t num_ids = 0;
  };

  struct alignas(64) Set {
    std::array<Entry, 2> entries;
  };
  static_assert(sizeof(Set) == 64, "a probe touches one cache line");

  template <typename Word>
  static std::uint64_t load(const char* bytes) noexcept {
    Word word;
    std::memcpy(&word, bytes, sizeof(Word));
    return word;
  }

  static Key key_of(std::string_view word) noexcept {
    const char* bytes = word.data();
    const std::size_t size = word.size();
    Key key;
    key.size = static_cast<std::uint8_t>(size);
    if (size >= 8) {
      key.low = load<std::uint64_t>(bytes);
      key.high = load<std::uint64_t>(bytes + size - 8);
    } else if (size >= 4) {
      key.low = load<std::uint32_t>(bytes) << 32 | load<std::uint32_t>(bytes + size - 4);
    } else {
      key.low = load<std::uint8_t>(bytes) << 16 | load<std::uint8_t>(bytes + size / 2) << 8 |
                load<std::uint8_t>(bytes + size - 1);
    }
    return key;
  }

  static std::size_t set_index(const Key& key) noexcept {
    constexpr std::uint64_t odd = 0x9E3779B97F4A7C15u;
    const std::uint64_t mixed = (key.low ^ (key.high * odd) ^ key.size) * odd;
    return (mixed ^ mixed >> 32) * odd >> (64 - set_bits);
  }

  std::vector<Set> sets_ = std::vector<Set>(num_sets);
};

}  // namespace weldlm
