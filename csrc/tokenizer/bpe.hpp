// Byte pair encoding of one piece: the pair of lowest rank merges first, the leftmost of equals.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "tokenizer/merge_table.hpp"
#include "tokenizer/rank_queue.hpp"

namespace weldlm {

// Memory that encoding needs between pieces; one for each thread that encodes.
struct BpeScratch {
  explicit BpeScratch(std::size_t num_ranks) : queue(num_ranks) {}

  RankQueue queue;
  std::vector<std::uint32_t> ids;
  std::vector<std::uint32_t> next;
  std::vector<std::uint32_t> previous;
};

class Bpe {
 public:
  // `byte_ids[b]` is the id of the token of the one byte b.
  Bpe(const std::array<std::uint32_t, 256>& byte_ids, const std::vector<Merge>& merges);

  std::size_t num_merges() const noexcept { return results_.size(); }

  // Appends the ids of `piece` to `ids`. Time is O(n log n) in the bytes of the piece.
  void encode_piece(std::string_view piece, BpeScratch& scratch,
                    std::vector<std::uint32_t>& ids) const;

 private:
  void encode_short(std::string_view piece, std::vector<std::uint32_t>& ids) const;
  void encode_long(std::string_view piece, BpeScratch& scratch,
                   std::vector<std::uint32_t>& ids) const;
  void link_bytes(std::string_view piece, BpeScratch& scratch) const;
  void merge_linked(BpeScratch& scratch) const;

  std::array<std::uint32_t, 256> byte_ids_;
  MergeTable ranks_;
  std::vector<std::uint32_t> results_;  // rank -> id of the merged token
};

}  // namespace weldlm
