// A byte-level BPE tokenizer with the GPT-2 pattern: added tokens, pieces, merges, bytes.
// All const methods may run in several threads at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/added_tokens.hpp"
#include "tokenizer/bpe.hpp"
#include "tokenizer/encoder_pool.hpp"
#include "tokenizer/vocabulary.hpp"

namespace weldlm {

// The ids of all texts end to end; those of text i are [offsets[i], offsets[i + 1]).
struct RaggedIds {
  std::vector<std::uint32_t> ids;
  std::vector<std::int64_t> offsets;
};

// What to do with special tokens in text; those in neither list are plain text.
struct SpecialTokenPolicy {
  std::vector<std::uint32_t> allowed_ids;
  std::vector<std::uint32_t> disallowed_ids;
};

class ByteLevelBpe {
 public:
  // tokens[id] are the bytes of the token. Throws std::invalid_argument unless every byte has a
  // token and every merge joins the bytes of its parts.
  ByteLevelBpe(const std::vector<std::string>& tokens, std::vector<Merge> merges,
               std::vector<AddedToken> added_tokens);

  const Vocabulary& vocabulary() const noexcept { return vocabulary_; }
  const std::vector<Merge>& merges() const noexcept { return merges_; }

  std::vector<std::uint32_t> encode(std::string_view text, const SpecialTokenPolicy& policy) const;

  // The result does not depend on num_threads.
  RaggedIds encode_batch(std::span<const std::string_view> texts, std::size_t num_threads,
                         const SpecialTokenPolicy& policy) const;

  // Gives back the memory of the word caches.
  void clear_cache() const noexcept { pool_.clear(); }

 private:
  void encode_pass(std::string_view text, std::size_t pass, const TokenMask& mask,
                   EncoderState& state, std::vector<std::uint32_t>& ids) const;
  void encode_pieces(std::string_view text, EncoderState& state,
                     std::vector<std::uint32_t>& ids) const;

  Vocabulary vocabulary_;
  std::vector<Merge> merges_;
  Bpe bpe_;
  AddedTokens added_tokens_;
  mutable EncoderPool pool_;
};

}  // namespace weldlm
