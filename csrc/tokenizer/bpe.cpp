#include "tokenizer/bpe.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

namespace weldlm {
namespace {

// Up to this size a scan over a flat array beats a queue.
constexpr std::size_t max_short_bytes = 64;
// Scratch memory that a longer piece asked for is given back after it.
constexpr std::size_t max_kept_bytes = std::size_t{1} << 16;
constexpr std::uint32_t no_position = std::numeric_limits<std::uint32_t>::max();

}  // namespace

Bpe::Bpe(const std::array<std::uint32_t, 256>& byte_ids, const std::vector<Merge>& merges)
    : byte_ids_(byte_ids), ranks_(merges) {
  results_.reserve(merges.size());
  for (const Merge& merge : merges) results_.push_back(merge.result);
}

void Bpe::encode_piece(std::string_view piece, BpeScratch& scratch,
                       std::vector<std::uint32_t>& ids) const {
  if (piece.size() <= max_short_bytes) {
    encode_short(piece, ids);
  } else {
    encode_long(piece, scratch, ids);
  }
}

void Bpe::encode_short(std::string_view piece, std::vector<std::uint32_t>& ids) const {
  std::array<std::uint32_t, max_short_bytes> tokens;
  std::array<std::uint32_t, max_short_bytes> ranks;  // of the pair (i, i + 1)
  std::size_t size = piece.size();
  for (std::size_t i = 0; i < size; ++i) {
    tokens[i] = byte_ids_[static_cast<unsigned char>(piece[i])];
  }
  for (std::size_t i = 0; i + 1 < size; ++i) ranks[i] = ranks_.rank(tokens[i], tokens[i + 1]);
  while (size > 1) {
    const auto lowest = std::min_element(ranks.begin(), ranks.begin() + (size - 1));
    if (*lowest == no_rank) break;
    const auto at = static_cast<std::size_t>(lowest - ranks.begin());
    tokens[at] = results_[*lowest];
    std::copy(tokens.begin() + at + 2, tokens.begin() + size, tokens.begin() + at + 1);
    std::copy(lowest + 1, ranks.begin() + (size - 1), lowest);
    --size;
    if (at + 1 < size) ranks[at] = ranks_.rank(tokens[at], tokens[at + 1]);
    if (at > 0) ranks[at - 1] = ranks_.rank(tokens[at - 1], tokens[at]);
  }
  ids.insert(ids.end(), tokens.begin(), tokens.begin() + size);
}

void Bpe::encode_long(std::string_view piece, BpeScratch& scratch,
                      std::vector<std::uint32_t>& ids) const {
  if (piece.size() >= no_position) {
    throw std::invalid_argument("a piece of " + std::to_string(piece.size()) +
                                " bytes without a boundary; expected fewer than 4 GiB: "
                                "split the text");
  }
  link_bytes(piece, scratch);
  merge_linked(scratch);
  for (std::uint32_t i = 0; i != no_position; i = scratch.next[i]) {
    ids.push_back(scratch.ids[i]);
  }
  scratch.queue.reset();
  if (piece.size() > max_kept_bytes) scratch = BpeScratch(num_merges());
}

// Makes the piece a doubly linked list of its bytes and queues every pair that can merge.
void Bpe::link_bytes(std::string_view piece, BpeScratch& scratch) const {
  const auto size = static_cast<std::uint32_t>(piece.size());
  scratch.ids.resize(size);
  scratch.next.resize(size);
  scratch.previous.resize(size);
  for (std::uint32_t i = 0; i < size; ++i) {
    scratch.ids[i] = byte_ids_[static_cast<unsigned char>(piece[i])];
    scratch.next[i] = i + 1 < size ? i + 1 : no_position;
    scratch.previous[i] = i > 0 ? i - 1 : no_position;
  }
  for (std::uint32_t i = 0; i + 1 < size; ++i) {
    const std::uint32_t rank = ranks_.rank(scratch.ids[i], scratch.ids[i + 1]);
    if (rank != no_rank) scratch.queue.push(rank, i);
  }
}

void Bpe::merge_linked(BpeScratch& scratch) const {
  auto& [queue, ids, next, previous] = scratch;
  constexpr std::uint32_t merged_away = no_rank;  // no token has this id
  while (!queue.empty()) {
    const auto [rank, at] = queue.pop();
    const std::uint32_t right = next[at];
    // entries go stale when a neighbor merged first
    if (ids[at] == merged_away || right == no_position) continue;
    if (ranks_.rank(ids[at], ids[right]) != rank) continue;
    ids[at] = results_[rank];
    ids[right] = merged_away;
    next[at] = next[right];
    if (next[at] != no_position) {
      previous[next[at]] = at;
      const std::uint32_t after = ranks_.rank(ids[at], ids[next[at]]);
      if (after != no_rank) queue.push(after, at);
    }
    if (previous[at] != no_position) {
      const std::uint32_t before = ranks_.rank(ids[previous[at]], ids[at]);
      if (before != no_rank) queue.push(before, previous[at]);
    }
  }
}

}  // namespace weldlm
