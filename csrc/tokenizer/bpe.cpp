#include "tokenizer/bpe.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

namespace weldlm {
namespace {

// Up to this size a scan over a flat array beats a queue.
constexpr std::size_t max_short_bytes = 64;
// Scratch memory that a longer piece asked for is given back after it.
constexpr std::size_t max_kept_bytes = std::size_t{1} << 16;
constexpr std::uint32_t no_position = std::numeric_limits<std::uint32_t>::max();

std::array<std::uint32_t, 256> find_byte_ids(const Vocabulary& vocabulary, bool drops_bytes) {
  std::array<std::uint32_t, 256> byte_ids;
  for (std::size_t byte = 0; byte < byte_ids.size(); ++byte) {
    const char character = static_cast<char>(byte);
    const auto id = vocabulary.id(std::string_view(&character, 1));
    if (!id && !drops_bytes) {
      throw std::invalid_argument("no token stands for the byte " + std::to_string(byte) +
                                  "; a byte-level vocabulary has one for each of the 256");
    }
    byte_ids[byte] = id.value_or(no_rank);
  }
  return byte_ids;
}

std::vector<Merge> checked(std::vector<Merge> merges, const Vocabulary& vocabulary) {
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left, right, result] = merges[rank];
    const std::string_view joined = vocabulary.token(result);
    const std::string_view first = vocabulary.token(left);
    const bool is_sum =
        joined.substr(0, first.size()) == first &&
        joined.substr(std::min(first.size(), joined.size())) == vocabulary.token(right);
    if (!is_sum || joined.size() <= first.size() || first.empty()) {
      throw std::invalid_argument("merge " + std::to_string(rank) + " joins ids " +
                                  std::to_string(left) + " and " + std::to_string(right) +
                                  " into id " + std::to_string(result) +
                                  ", whose bytes are not theirs end to end");
    }
  }
  return merges;
}

// The rank of each merge; where they are shared, neighbors into one token have the same.
std::vector<std::uint32_t> ranks_of(std::span<const Merge> merges, bool shares_ranks) {
  std::vector<std::uint32_t> ranks;
  ranks.reserve(merges.size());
  std::uint32_t rank = 0;
  for (std::size_t i = 0; i < merges.size(); ++i) {
    if (i > 0 && !(shares_ranks && merges[i].result == merges[i - 1].result)) ++rank;
    ranks.push_back(rank);
  }
  return ranks;
}

std::vector<std::uint32_t> results_of(std::span<const Merge> merges, bool shares_ranks) {
  std::vector<std::uint32_t> results;
  for (std::size_t i = 0; i < merges.size(); ++i) {
    if (i > 0 && shares_ranks && merges[i].result == merges[i - 1].result) continue;
    results.push_back(merges[i].result);
  }
  return results;
}

std::vector<std::uint32_t> sizes_of(const Vocabulary& vocabulary) {
  std::vector<std::uint32_t> sizes;
  sizes.reserve(vocabulary.size());
  for (std::size_t id = 0; id < vocabulary.size(); ++id) {
    const std::string_view token = vocabulary.token(static_cast<std::int64_t>(id));
    sizes.push_back(static_cast<std::uint32_t>(token.size()));
  }
  return sizes;
}

// In an image, where any byte may stand, options are no bool.
using OptionBytes = std::array<std::uint8_t, 3>;

OptionBytes bytes_of(const BpeOptions& options) {
  return {options.ignore_merges, options.shares_ranks, options.drops_bytes};
}

BpeOptions options_of(const OptionBytes& bytes) {
  return {.ignore_merges = bytes[0] != 0,
          .shares_ranks = bytes[1] != 0,
          .drops_bytes = bytes[2] != 0};
}

}  // namespace

std::vector<Merge> merges_of_ranks(const Vocabulary& vocabulary) {
  std::vector<Merge> merges;
  for (std::uint32_t result = 0; result < vocabulary.size(); ++result) {
    const std::string_view token = vocabulary.token(result);
    if (token.size() > max_ranked_bytes) {
      throw std::invalid_argument("the token of id " + std::to_string(result) + " has " +
                                  std::to_string(token.size()) + " bytes, expected at most " +
                                  std::to_string(max_ranked_bytes));
    }
    if (vocabulary.id(token) != result) continue;  // empty, or a repetition of a lower id
    for (std::size_t size = 1; size < token.size(); ++size) {
      const auto left = vocabulary.id(token.substr(0, size));
      if (!left) continue;
      const auto right = vocabulary.id(token.substr(size));
      if (right) merges.push_back({*left, *right, result});
    }
  }
  return merges;
}

ByteBpe::ByteBpe(std::shared_ptr<const Vocabulary> vocabulary, std::vector<Merge> merges,
                 BpeOptions options)
    : vocabulary_(std::move(vocabulary)),
      byte_ids_(find_byte_ids(*vocabulary_, options.drops_bytes)),
      has_every_byte_(std::find(byte_ids_.begin(), byte_ids_.end(), no_rank) == byte_ids_.end()),
      merges_(checked(std::move(merges), *vocabulary_)),
      ranks_(merges_.view(), ranks_of(merges_.view(), options.shares_ranks)),
      results_(results_of(merges_.view(), options.shares_ranks)),
      options_(options),
      sizes_(sizes_of(*vocabulary_)),
      max_token_bytes_(*std::max_element(sizes_.view().begin(), sizes_.view().end())) {}

ByteBpe::ByteBpe(ImageReader& image)
    : vocabulary_(std::make_shared<const Vocabulary>(image)),
      byte_ids_(image.value<std::array<std::uint32_t, 256>>()),
      has_every_byte_(std::find(byte_ids_.begin(), byte_ids_.end(), no_rank) == byte_ids_.end()),
      merges_(image.array<Merge>()),
      ranks_(image, merges_.size()),
      results_(image.array<std::uint32_t>()),
      options_(options_of(image.value<OptionBytes>())),
      sizes_(image.array<std::uint32_t>()),
      max_token_bytes_(0) {
  check_image();
  max_token_bytes_ = *std::max_element(sizes_.view().begin(), sizes_.view().end());
}

// Every id and rank that encoding uses as an index is in its range.
void ByteBpe::check_image() const {
  const std::size_t num_tokens = vocabulary_->size();
  const auto is_id = [&](std::uint32_t id) { return id < num_tokens; };
  const auto is_id_or_none = [&](std::uint32_t id) { return id == no_rank || is_id(id); };
  if (!std::all_of(byte_ids_.begin(), byte_ids_.end(), is_id_or_none) ||
      !std::all_of(results_.view().begin(), results_.view().end(), is_id) ||
      !ranks_.has_ranks_below(results_.size())) {
    throw std::invalid_argument("the merges of the image do not fit its vocabulary");
  }
  std::size_t difference = sizes_.size() ^ num_tokens;
  for (std::size_t id = 0; id < std::min(sizes_.size(), num_tokens); ++id) {
    difference |= sizes_[id] ^ vocabulary_->token(static_cast<std::int64_t>(id)).size();
  }
  if (difference != 0) {
    throw std::invalid_argument("the sizes of the image do not fit its vocabulary");
  }
}

void ByteBpe::write(ImageWriter& image) const {
  vocabulary_->write(image);
  image.add(std::span(&byte_ids_, 1));
  image.add(merges_);
  ranks_.write(image);
  image.add(results_);
  const OptionBytes options = bytes_of(options_);
  image.add(std::span(&options, 1));
  image.add(sizes_);
}

std::unique_ptr<Workspace> ByteBpe::make_workspace() const {
  return std::make_unique<BpeWorkspace>(results_.size());
}

void ByteBpe::encode(std::string_view piece, Workspace* workspace, TokenSink& sink) const {
  if (options_.ignore_merges && piece.size() <= max_token_bytes_) {
    if (const auto id = vocabulary_->id(piece)) return add(*id, sink);
  }
  auto& own = static_cast<BpeWorkspace&>(*workspace);
  if (has_every_byte_) {
    encode_known(piece, own, sink);
  } else {
    encode_dropping(piece, own, sink);
  }
}

void ByteBpe::encode_known(std::string_view piece, BpeWorkspace& workspace,
                           TokenSink& sink) const {
  if (piece.size() <= max_short_bytes) {
    encode_short(piece, sink);
  } else {
    encode_long(piece, workspace, sink);
  }
}

// A dropped byte counts to the token before it, those at the beginning to the first token.
void ByteBpe::encode_dropping(std::string_view piece, BpeWorkspace& workspace,
                              TokenSink& sink) const {
  std::string kept;
  std::vector<std::size_t> places;  // of the kept bytes, and the end
  for (std::size_t i = 0; i < piece.size(); ++i) {
    if (is_dropped(piece[i])) continue;
    kept += piece[i];
    places.push_back(i);
  }
  if (kept.empty()) return;
  places.push_back(piece.size());
  places.front() = 0;
  const std::size_t before = sink.sizes.size();
  encode_known(kept, workspace, sink);
  std::size_t begin = 0;
  for (std::size_t i = before; i < sink.sizes.size(); ++i) {
    const std::size_t end = std::min(begin + sink.sizes[i], places.size() - 1);
    sink.sizes[i] = static_cast<std::uint32_t>(places[end] - places[begin]);
    begin = end;
  }
}

void ByteBpe::add(std::uint32_t id, TokenSink& sink) const { sink.add(id, sizes_[id]); }

void ByteBpe::encode_short(std::string_view piece, TokenSink& sink) const {
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
  for (std::size_t i = 0; i < size; ++i) add(tokens[i], sink);
}

void ByteBpe::encode_long(std::string_view piece, BpeWorkspace& workspace, TokenSink& sink) const {
  link_bytes(piece, workspace);
  merge_linked(workspace);
  for (std::uint32_t i = 0; i != no_position; i = workspace.next[i]) add(workspace.ids[i], sink);
  workspace.queue.reset();
  if (piece.size() > max_kept_bytes) workspace = BpeWorkspace(results_.size());
}

// Makes the piece a doubly linked list of its bytes and queues every pair that can merge.
void ByteBpe::link_bytes(std::string_view piece, BpeWorkspace& workspace) const {
  const auto size = static_cast<std::uint32_t>(piece.size());
  workspace.ids.resize(size);
  workspace.next.resize(size);
  workspace.previous.resize(size);
  for (std::uint32_t i = 0; i < size; ++i) {
    workspace.ids[i] = byte_ids_[static_cast<unsigned char>(piece[i])];
    workspace.next[i] = i + 1 < size ? i + 1 : no_position;
    workspace.previous[i] = i > 0 ? i - 1 : no_position;
  }
  for (std::uint32_t i = 0; i + 1 < size; ++i) {
    const std::uint32_t rank = ranks_.rank(workspace.ids[i], workspace.ids[i + 1]);
    if (rank != no_rank) workspace.queue.push(rank, i);
  }
}

void ByteBpe::merge_linked(BpeWorkspace& workspace) const {
  auto& queue = workspace.queue;
  auto& ids = workspace.ids;
  auto& next = workspace.next;
  auto& previous = workspace.previous;
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
