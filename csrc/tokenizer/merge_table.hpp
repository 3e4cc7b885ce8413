// Pair of ids -> rank of its merge: a flat table with open addressing.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace weldlm {

inline constexpr std::uint32_t no_rank = std::numeric_limits<std::uint32_t>::max();

// One merge; its index in the list is its rank.
struct Merge {
  std::uint32_t left;
  std::uint32_t right;
  std::uint32_t result;

  bool operator==(const Merge&) const = default;
};

inline std::uint64_t pair_key(std::uint32_t left, std::uint32_t right) noexcept {
  return static_cast<std::uint64_t>(left) << 32 | right;
}

class MergeTable {
 public:
  // The rank of a merge is its index in the list.
  explicit MergeTable(const std::vector<Merge>& merges) : MergeTable(merges.size()) {
    for (std::size_t rank = 0; rank < merges.size(); ++rank) {
      put(merges[rank], static_cast<std::uint32_t>(rank));
    }
  }

  // ranks[i] is the rank of merges[i].
  MergeTable(const std::vector<Merge>& merges, const std::vector<std::uint32_t>& ranks)
      : MergeTable(merges.size()) {
    for (std::size_t i = 0; i < merges.size(); ++i) put(merges[i], ranks[i]);
  }

  // no_rank where the pair has no merge. Of two merges of one pair the later one counts.
  std::uint32_t rank(std::uint32_t left, std::uint32_t right) const noexcept {
    return slots_[find(pair_key(left, right))].rank;
  }

 private:
  struct Slot {
    std::uint64_t key = std::numeric_limits<std::uint64_t>::max();
    std::uint32_t rank = no_rank;
  };

  explicit MergeTable(std::size_t num_merges)
      : slots_(std::bit_ceil(num_merges * 2 + 2)), shift_(64 - std::countr_zero(slots_.size())) {}

  void put(const Merge& merge, std::uint32_t rank) noexcept {
    const std::uint64_t key = pair_key(merge.left, merge.right);
    slots_[find(key)] = {key, rank};
  }

  std::size_t find(std::uint64_t key) const noexcept {
    std::size_t index = (key * 0x9E3779B97F4A7C15u) >> shift_;
    while (slots_[index].rank != no_rank && slots_[index].key != key) {
      index = (index + 1) & (slots_.size() - 1);
    }
    return index;
  }

  std::vector<Slot> slots_;
  int shift_;
};

}  // namespace weldlm
