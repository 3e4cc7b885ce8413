// Pair of ids -> rank of its merge: a flat table with open addressing.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
#include <vector>

#include "tokenizer/flat_array.hpp"

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
  // ranks[i] is the rank of merges[i].
  MergeTable(std::span<const Merge> merges, const std::vector<std::uint32_t>& ranks)
      : shift_(64 - std::countr_zero(num_slots(merges.size()))) {
    std::vector<Slot> slots(num_slots(merges.size()));
    for (std::size_t i = 0; i < merges.size(); ++i) {
      const std::uint64_t key = pair_key(merges[i].left, merges[i].right);
      slots[find(key, slots)] = {key, ranks[i], 0};
    }
    slots_ = FlatArray(std::move(slots));
  }

  // Of so many merges.
  MergeTable(ImageReader& image, std::size_t num_merges)
      : slots_(image.array<Slot>()), shift_(64 - std::countr_zero(num_slots(num_merges))) {
    if (slots_.size() != num_slots(num_merges)) {
      throw std::invalid_argument("the merges of the image do not fit their table");
    }
    const auto is_free = [](const Slot& slot) { return slot.rank == no_rank; };
    if (std::none_of(slots_.view().begin(), slots_.view().end(), is_free)) {
      throw std::invalid_argument("the table of merges of the image has no free slot");
    }
  }

  void write(ImageWriter& image) const { image.add(slots_); }

  // Whether all ranks are below `num_ranks`.
  bool has_ranks_below(std::size_t num_ranks) const noexcept {
    std::uint32_t most = 0;
    for (const Slot& slot : slots_.view()) most = std::max(most, slot.rank + 1);  // of no_rank: 0
    return most <= num_ranks;
  }

  // no_rank where the pair has no merge. Of two merges of one pair the later one counts.
  std::uint32_t rank(std::uint32_t left, std::uint32_t right) const noexcept {
    return slots_[find(pair_key(left, right), slots_.view())].rank;
  }

 private:
  struct Slot {
    std::uint64_t key = std::numeric_limits<std::uint64_t>::max();
    std::uint32_t rank = no_rank;
    std::uint32_t unused = 0;
  };

  static std::size_t num_slots(std::size_t num_merges) noexcept {
    return std::bit_ceil(num_merges * 2 + 2);
  }

  std::size_t find(std::uint64_t key, std::span<const Slot> slots) const noexcept {
    std::size_t index = (key * 0x9E3779B97F4A7C15u) >> shift_;
    while (slots[index].rank != no_rank && slots[index].key != key) {
      index = (index + 1) & (slots.size() - 1);
    }
    return index;
  }

  FlatArray<Slot> slots_;
  int shift_;
};

}  // namespace weldlm
