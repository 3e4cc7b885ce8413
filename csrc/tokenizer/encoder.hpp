// From text to ids: added tokens, normalizer, pieces, model.
// All const methods may run in several threads at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/added_tokens.hpp"
#include "tokenizer/encoder_pool.hpp"
#include "tokenizer/model.hpp"
#include "tokenizer/normalizer.hpp"
#include "tokenizer/pretokenizer.hpp"

namespace weldlm {

// The ids of all texts end to end; those of text i are [offsets[i], offsets[i + 1]).
template <typename Id>
struct RaggedIds {
  std::vector<Id> ids;
  std::vector<std::int64_t> offsets;
};

// Ids around each text.
struct Surroundings {
  std::vector<std::uint32_t> before;
  std::vector<std::uint32_t> after;
};

// The ids of one text and the bytes of it that each stands for.
struct LocatedIds {
  std::vector<std::uint32_t> ids;
  std::vector<ByteRange> ranges;
};

// What to do with special tokens in text; those in neither list are plain text.
struct SpecialTokenPolicy {
  std::vector<std::uint32_t> allowed_ids;
  std::vector<std::uint32_t> disallowed_ids;
};

// A part of a text, and whether special tokens in it may take effect.
struct TextSegment {
  std::string_view text;
  bool is_trusted;
};

// What an encoder is made of. Text goes through it in this order; null stands for nothing to do.
struct EncoderParts {
  std::vector<AddedToken> added_tokens;  // those that are not normalized match the text as it is
  std::shared_ptr<const Normalizer> normalizer;      // the other added tokens match its result
  std::shared_ptr<const Normalizer> rewriter;        // works on the text between the added tokens
  std::shared_ptr<const Pretokenizer> pretokenizer;  // null: all of it is one piece
  std::shared_ptr<const Model> model;
};

class Encoder {
 public:
  // Throws std::invalid_argument without a model or on an added token that cannot be one.
  explicit Encoder(EncoderParts parts);

  // `is_start` is false for the continuation of a text.
  std::vector<std::uint32_t> encode(std::string_view text, const SpecialTokenPolicy& policy,
                                    bool is_start = true) const;

  // The ids of a text in which special tokens are plain text.
  std::vector<std::uint32_t> encode_ordinary(std::string_view text) const;

  // The same of a text that must not hold any: throws std::invalid_argument where it does.
  std::vector<std::uint32_t> encode_refusing(std::string_view text) const;

  // Encodes the segments as one text. Special tokens match only within a trusted segment; no added
  // token crosses a border.
  std::vector<std::uint32_t> encode_segments(std::span<const TextSegment> segments) const;

  // A token that is a part of a character stands for all of it.
  LocatedIds encode_located(std::string_view text, const SpecialTokenPolicy& policy) const;

  // The result does not depend on num_threads. Id is std::uint16_t, into which all ids must fit, or
  // std::uint32_t. `pause` is called now and then on the calling thread, between texts; what it
  // throws ends the call.
  template <typename Id>
  RaggedIds<Id> encode_batch(std::span<const std::string_view> texts, std::size_t num_threads,
                             const SpecialTokenPolicy& policy,
                             const Surroundings& surroundings = {},
                             const std::function<void()>& pause = {}) const;

  // Gives back the memory of the word caches.
  void clear_cache() const noexcept { pool_.clear(); }

 private:
  class Call;

  EncoderParts parts_;
  AddedTokens added_tokens_;
  TokenMask ordinary_;  // of the added tokens that are not special
  TokenMask special_;   // of those that are
  mutable EncoderPool pool_;
};

}  // namespace weldlm
