// Pair of symbols -> what they merge into and how early: a flat table with open addressing.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tokenizer/merge_table.hpp"

namespace weldlm {

// A merge whose rank need not be its own.
struct RankedMerge {
  std::uint32_t left;
  std::uint32_t right;
  std::uint32_t result;
  std::uint32_t rank;  // the lowest merges first
};

class PairRanks {
 public:
  struct Found {
    std::uint32_t rank = no_rank;
    std::uint32_t result = 0;
  };

  // Of two merges of one pair the later one counts.
  explicit PairRanks(std::span<const RankedMerge> merges)
      : slots_(std::bit_ceil(merges.size() * 2 + 2)), shift_(64 - std::countr_zero(slots_.size())) {
    for (const RankedMerge& merge : merges) {
      const std::uint64_t key = pair_key(merge.left, merge.right);
      slots_[index_of(key)] = {key, {merge.rank, merge.result}};
    }
  }

  // Rank no_rank where the pair does not merge.
  Found find(std::uint32_t left, std::uint32_t right) const noexcept {
    return slots_[index_of(pair_key(left, right))].found;
  }

 private:
  struct Slot {
    std::uint64_t key = 0;
    Found found;
  };

  std::size_t index_of(std::uint64_t key) const noexcept {
    std::size_t index = (key * 0x9E3779B97F4A7C15u) >> shift_;
    while (slots_[index].found.rank != no_rank && slots_[index].key != key) {
      index = (index + 1) & (slots_.size() - 1);
    }
    return index;
  }

  std::vector<Slot> slots_;
  int shift_;
};

}  // namespace weldlm
