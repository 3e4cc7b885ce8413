#include "tokenizer/tokenizer.hpp"

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>

#include "tokenizer/parallel.hpp"
#include "tokenizer/pretokenize.hpp"

namespace weldlm {
namespace {

// Texts are handed to threads in groups of about this size.
constexpr std::size_t min_group_bytes = std::size_t{1} << 15;

std::array<std::uint32_t, 256> find_byte_ids(const Vocabulary& vocabulary) {
  std::array<std::uint32_t, 256> byte_ids;
  for (std::size_t byte = 0; byte < byte_ids.size(); ++byte) {
    const char character = static_cast<char>(byte);
    const auto id = vocabulary.id(std::string_view(&character, 1));
    if (!id) {
      throw std::invalid_argument("no token stands for the byte " + std::to_string(byte) +
                                  "; a byte-level vocabulary has one for each of the 256");
    }
    byte_ids[byte] = *id;
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

// First indices of the groups of texts, and the number of texts.
std::vector<std::size_t> group_texts(std::span<const std::string_view> texts) {
  std::vector<std::size_t> begins{0};
  std::size_t size = 0;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    size += texts[i].size();
    if (size < min_group_bytes) continue;
    begins.push_back(i + 1);
    size = 0;
  }
  if (begins.back() != texts.size()) begins.push_back(texts.size());
  return begins;
}

}  // namespace

ByteLevelBpe::ByteLevelBpe(const std::vector<std::string>& tokens, std::vector<Merge> merges,
                           std::vector<AddedToken> added_tokens)
    : vocabulary_(tokens),
      merges_(checked(std::move(merges), vocabulary_)),
      bpe_(find_byte_ids(vocabulary_), merges_),
      added_tokens_(std::move(added_tokens)),
      pool_(merges_.size()) {
  for (const AddedToken& token : added_tokens_.tokens()) {
    if (vocabulary_.token(token.id) != token.content) {
      throw std::invalid_argument("added token '" + token.content + "' has id " +
                                  std::to_string(token.id) +
                                  ", whose bytes in the vocabulary differ");
    }
  }
}

std::vector<std::uint32_t> ByteLevelBpe::encode(std::string_view text,
                                                const SpecialTokenPolicy& policy) const {
  if (!policy.disallowed_ids.empty()) {
    added_tokens_.refuse(text, "text", added_tokens_.mask_of(policy.disallowed_ids));
  }
  std::vector<std::uint32_t> ids;
  auto state = pool_.take();
  encode_pass(text, 0, added_tokens_.mask_with(policy.allowed_ids), *state, ids);
  pool_.put(std::move(state));
  return ids;
}

RaggedIds ByteLevelBpe::encode_batch(std::span<const std::string_view> texts,
                                     std::size_t num_threads,
                                     const SpecialTokenPolicy& policy) const {
  const TokenMask allowed = added_tokens_.mask_with(policy.allowed_ids);
  const TokenMask disallowed = added_tokens_.mask_of(policy.disallowed_ids);
  const std::vector<std::size_t> begins = group_texts(texts);
  std::vector<std::vector<std::uint32_t>> group_ids(begins.size() - 1);
  RaggedIds ragged;
  ragged.offsets.resize(texts.size() + 1);

  // offsets[i + 1] first holds the number of ids of text i
  parallel_for(group_ids.size(), num_threads, [&](std::size_t, std::size_t group) {
    auto state = pool_.take();
    std::vector<std::uint32_t>& ids = group_ids[group];
    for (std::size_t i = begins[group]; i < begins[group + 1]; ++i) {
      if (!policy.disallowed_ids.empty()) {
        added_tokens_.refuse(texts[i], "text " + std::to_string(i), disallowed);
      }
      const std::size_t before = ids.size();
      encode_pass(texts[i], 0, allowed, *state, ids);
      ragged.offsets[i + 1] = static_cast<std::int64_t>(ids.size() - before);
    }
    pool_.put(std::move(state));
  });

  for (std::size_t i = 0; i < texts.size(); ++i) ragged.offsets[i + 1] += ragged.offsets[i];
  ragged.ids.reserve(static_cast<std::size_t>(ragged.offsets.back()));
  for (auto& ids : group_ids) {
    ragged.ids.insert(ragged.ids.end(), ids.begin(), ids.end());
    ids = {};
  }
  return ragged;
}

void ByteLevelBpe::encode_pass(std::string_view text, std::size_t pass, const TokenMask& mask,
                               EncoderState& state, std::vector<std::uint32_t>& ids) const {
  if (pass == AddedTokens::num_passes) {
    encode_pieces(text, state, ids);
    return;
  }
  std::size_t start = 0;
  while (const auto match = added_tokens_.find(text, start, pass, mask)) {
    encode_pass(text.substr(start, match->begin - start), pass + 1, mask, state, ids);
    ids.push_back(added_tokens_.tokens()[match->index].id);
    start = match->end;
  }
  encode_pass(text.substr(start), pass + 1, mask, state, ids);
}

void ByteLevelBpe::encode_pieces(std::string_view text, EncoderState& state,
                                 std::vector<std::uint32_t>& ids) const {
  for (std::size_t start = 0; start < text.size();) {
    const std::size_t end = gpt2_piece_end(text, start);
    const std::string_view piece = text.substr(start, end - start);
    start = end;
    const bool is_short = WordCache::accepts(piece);
    if (is_short && state.cache.append_ids(piece, ids)) continue;
    const std::size_t before = ids.size();
    bpe_.encode_piece(piece, state.scratch, ids);
    if (is_short) state.cache.insert(piece, std::span(ids).subspan(before));
  }
}

}  // namespace weldlm
