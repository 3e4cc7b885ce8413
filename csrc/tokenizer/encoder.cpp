#include "tokenizer/encoder.hpp"

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "tokenizer/parallel.hpp"
#include "tokenizer/unicode.hpp"

namespace weldlm {
namespace {

// Texts are handed to threads in groups of about this size.
constexpr std::size_t min_group_bytes = std::size_t{1} << 15;

// Of a text in a language that the vocabulary knows, so that room for ids is asked for once.
constexpr std::size_t usual_token_bytes = 3;

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

template <typename Id>
std::vector<Id> narrowed(std::vector<std::uint32_t> ids) {
  if constexpr (std::is_same_v<Id, std::uint32_t>) {
    return ids;
  } else {
    std::vector<Id> narrow(ids.size());
    std::transform(ids.begin(), ids.end(), narrow.begin(),
                   [](std::uint32_t id) { return static_cast<Id>(id); });
    return narrow;
  }
}

// Tokens that match normalized text, normalized themselves.
std::vector<AddedToken> normalized(std::vector<AddedToken> tokens, const Normalizer* normalizer) {
  for (AddedToken& token : tokens) {
    if (token.is_normalized) token.normalized = normalized_text(normalizer, token.content);
  }
  return tokens;
}

// Grows a range of bytes to whole characters.
ByteRange whole_characters(std::string_view text, ByteRange range) noexcept {
  while (range.begin > 0 && is_continuation(text, range.begin)) --range.begin;
  while (is_continuation(text, range.end)) ++range.end;
  return range;
}

// Segments end to end, and where each ends.
class SegmentedText {
 public:
  explicit SegmentedText(const AddedTokens& added_tokens) : added_tokens_(added_tokens) {}

  void add(const TextSegment& segment) {
    text_ += segment.text;
    segments_.push_back({text_.size(), segment.is_trusted});
  }

  std::string_view text() const noexcept { return text_; }

  bool allows(const AddedTokens::Match& match, ByteRange range) const {
    const auto behind = [](std::size_t place, const Segment& segment) {
      return place < segment.end;
    };
    const auto found = std::upper_bound(segments_.begin(), segments_.end(), range.begin, behind);
    if (found == segments_.end() || range.end > found->end) return false;
    return found->is_trusted || !added_tokens_.tokens()[match.index].is_special;
  }

 private:
  struct Segment {
    std::size_t end;
    bool is_trusted;
  };

  const AddedTokens& added_tokens_;
  std::string text_;
  std::vector<Segment> segments_;
};

}  // namespace

// One text on its way through the parts of an encoder.
class Encoder::Call {
 public:
  // `ranges` may be null; where it is not, the sink wants sizes.
  Call(const Encoder& encoder, const TokenMask& mask, EncoderState& state, TokenSink& sink,
       std::vector<ByteRange>* ranges)
      : parts_(encoder.parts_),
        added_tokens_(encoder.added_tokens_),
        mask_(mask),
        state_(state),
        sink_(sink),
        ranges_(ranges) {}

  void encode(std::string_view text, bool is_start = true) {
    starts_text_ = is_start;
    std::size_t start = 0;
    while (const auto match = added_tokens_.find(text, start, AddedTokens::raw_pass, mask_)) {
      encode_around(text, start, *match);
      start = match->end;
    }
    encode_segment(text.substr(start), start);
  }

  // Encodes a text whose added tokens, in order, are known, but for those that are normalized.
  void encode(std::string_view text, const SegmentedText& segmented,
              std::span<const AddedTokens::Match> matches) {
    segmented_ = &segmented;
    std::size_t start = 0;
    for (const AddedTokens::Match& match : matches) {
      encode_around(text, start, match);
      start = match.end;
    }
    encode_segment(text.substr(start), start);
  }

 private:
  // The text from `start` to an added token, and the token.
  void encode_around(std::string_view text, std::size_t start, const AddedTokens::Match& match) {
    encode_segment(text.substr(start, match.begin - start), start);
    add_token(match, {match.begin, match.end});
  }

  // Text between added tokens, which begins at byte `base` of the whole.
  void encode_segment(std::string_view text, std::size_t base) {
    if (text.empty()) return;
    base_ = base;
    is_start_ = starts_text_ && base == 0;
    if (parts_.normalizer == nullptr && parts_.rewriter == nullptr) {
      encode_normalized(text, nullptr);
      return;
    }
    const Origins origins = segmented_ != nullptr ? Origins::whole
                            : ranges_ != nullptr  ? Origins::offsets
                                                  : Origins::none;
    const NormalizedText source(text, origins);
    if (parts_.normalizer == nullptr) {
      encode_normalized(source.text(), &source);
      return;
    }
    NormalizedText normalized;
    parts_.normalizer->normalize(source, is_start_, normalized);
    encode_normalized(normalized.text(), &normalized);
  }

  // `origins` is null where `text` is the text that was given.
  void encode_normalized(std::string_view text, const NormalizedText* origins) {
    std::size_t start = 0;
    while (const auto match = find_normalized(text, origins, start)) {
      encode_part(text, origins, {start, match->begin});
      add_token(*match, origin(text, origins, {match->begin, match->end}));
      start = match->end;
    }
    encode_part(text, origins, {start, text.size()});
  }

  // Where the text has segments, a match lies in one of them, and a special token in a trusted one.
  std::optional<AddedTokens::Match> find_normalized(std::string_view text,
                                                    const NormalizedText* origins,
                                                    std::size_t start) const {
    auto match = added_tokens_.find(text, start, AddedTokens::normalized_pass, mask_);
    while (match && segmented_ != nullptr && !shrink_to_segment(text, origins, *match)) {
      match =
          added_tokens_.find(text, match->content_begin + 1, AddedTokens::normalized_pass, mask_);
    }
    return match;
  }

  // Leaves white space that other segments hold; false where the token itself is not allowed.
  bool shrink_to_segment(std::string_view text, const NormalizedText* origins,
                         AddedTokens::Match& match) const {
    const std::size_t begin = match.content_begin;
    const std::size_t end = begin + added_tokens_.tokens()[match.index].normalized.size();
    const auto allows = [&](std::size_t from, std::size_t to) {
      return segmented_->allows(match, whole_origin(text, origins, {from, to}));
    };
    if (!allows(begin, end)) return false;
    while (match.begin < begin && !allows(match.begin, end)) ++match.begin;
    while (match.end > end && !allows(begin, match.end)) --match.end;
    return true;
  }

  void encode_part(std::string_view text, const NormalizedText* origins, ByteRange part) {
    if (part.begin == part.end) return;
    if (parts_.rewriter == nullptr) {
      encode_pieces(text, origins, part);
      return;
    }
    NormalizedText source;
    source.restart(*origins);
    source.copy(*origins, part.begin, part.end);
    NormalizedText rewritten;
    parts_.rewriter->normalize(source, is_start_ && part.begin == 0, rewritten);
    encode_pieces(rewritten.text(), &rewritten, {0, rewritten.text().size()});
  }

  void encode_pieces(std::string_view text, const NormalizedText* origins, ByteRange part) {
    const std::string_view inside = text.substr(part.begin, part.end - part.begin);
    if (parts_.pretokenizer == nullptr) {
      if (!inside.empty()) encode_piece(text, origins, part);
      return;
    }
    for (std::size_t start = 0; start < inside.size();) {
      state_.pieces.clear();
      start = parts_.pretokenizer->split(inside, start, state_.pieces);
      for (const auto& [begin, end] : state_.pieces) {
        encode_piece(text, origins, {part.begin + begin, part.begin + end});
      }
    }
  }

  void encode_piece(std::string_view text, const NormalizedText* origins, ByteRange range) {
    const std::string_view piece = text.substr(range.begin, range.end - range.begin);
    const bool is_cached = ranges_ == nullptr && WordCache::accepts(piece);
    if (is_cached && state_.cache.append_ids(piece, sink_.ids)) return;
    if (piece.size() >= Model::max_piece_bytes) {
      throw std::invalid_argument("a piece of " + std::to_string(piece.size()) +
                                  " bytes without a boundary; expected fewer than 4 GiB: "
                                  "split the text");
    }
    const std::size_t before = sink_.ids.size();
    parts_.model->encode(piece, state_.workspace.get(), sink_);
    if (is_cached) state_.cache.insert(piece, std::span(sink_.ids).subspan(before));
    if (ranges_ == nullptr) return;
    std::size_t begin = range.begin;
    for (std::size_t i = before; i < sink_.ids.size(); ++i) {
      const std::size_t end = std::min(begin + sink_.sizes[i], range.end);
      ranges_->push_back(origin(text, origins, {begin, end}));
      begin = end;
    }
  }

  void add_token(const AddedTokens::Match& match, ByteRange range) {
    sink_.add(added_tokens_.tokens()[match.index].id, 0);
    if (ranges_ != nullptr) ranges_->push_back(range);
  }

  // The bytes of the whole text behind [begin, end) of a normalized segment.
  ByteRange origin(std::string_view text, const NormalizedText* origins, ByteRange range) const {
    return ranges_ == nullptr ? range : whole_origin(text, origins, range);
  }

  ByteRange whole_origin(std::string_view text, const NormalizedText* origins,
                         ByteRange range) const {
    const ByteRange found = origins == nullptr ? whole_characters(text, range)
                                               : origins->origin(range.begin, range.end);
    return {base_ + found.begin, base_ + found.end};
  }

  const EncoderParts& parts_;
  const AddedTokens& added_tokens_;
  const TokenMask& mask_;
  EncoderState& state_;
  TokenSink& sink_;
  std::vector<ByteRange>* ranges_;
  const SegmentedText* segmented_ = nullptr;
  std::size_t base_ = 0;
  bool starts_text_ = true;
  bool is_start_ = true;
};

Encoder::Encoder(EncoderParts parts)
    : parts_(std::move(parts)),
      added_tokens_(normalized(parts_.added_tokens, parts_.normalizer.get())),
      ordinary_(added_tokens_.mask_with({})),
      special_(added_tokens_.special_mask()),
      pool_(parts_.model) {
  if (parts_.model == nullptr) throw std::invalid_argument("an encoder needs a model");
}

std::vector<std::uint32_t> Encoder::encode(std::string_view text, const SpecialTokenPolicy& policy,
                                           bool is_start) const {
  if (!policy.disallowed_ids.empty()) {
    added_tokens_.refuse(text, "text", added_tokens_.mask_of(policy.disallowed_ids));
  }
  const TokenMask mask = added_tokens_.mask_with(policy.allowed_ids);
  TokenSink sink;
  auto state = pool_.take();
  Call(*this, mask, *state, sink, nullptr).encode(text, is_start);
  pool_.put(std::move(state));
  return std::move(sink.ids);
}

std::vector<std::uint32_t> Encoder::encode_ordinary(std::string_view text) const {
  TokenSink sink;
  sink.ids.reserve(text.size() / usual_token_bytes + 4);
  auto state = pool_.take();
  Call(*this, ordinary_, *state, sink, nullptr).encode(text);
  pool_.put(std::move(state));
  return std::move(sink.ids);
}

std::vector<std::uint32_t> Encoder::encode_refusing(std::string_view text) const {
  added_tokens_.refuse(text, "text", special_);
  return encode_ordinary(text);
}

std::vector<std::uint32_t> Encoder::encode_segments(std::span<const TextSegment> segments) const {
  const TokenMask all(added_tokens_.tokens().size(), true);
  SegmentedText segmented(added_tokens_);
  std::vector<AddedTokens::Match> matches;
  for (const TextSegment& segment : segments) {
    const std::size_t begin = segmented.text().size();
    const TokenMask& mask = segment.is_trusted ? all : ordinary_;
    for (std::size_t start = 0;
         const auto match = added_tokens_.find(segment.text, start, AddedTokens::raw_pass, mask);) {
      matches.push_back(
          {begin + match->begin, begin + match->end, match->index, begin + match->content_begin});
      start = match->end;
    }
    segmented.add(segment);
  }
  TokenSink sink;
  auto state = pool_.take();
  Call(*this, all, *state, sink, nullptr).encode(segmented.text(), segmented, matches);
  pool_.put(std::move(state));
  return std::move(sink.ids);
}

LocatedIds Encoder::encode_located(std::string_view text, const SpecialTokenPolicy& policy) const {
  if (!policy.disallowed_ids.empty()) {
    added_tokens_.refuse(text, "text", added_tokens_.mask_of(policy.disallowed_ids));
  }
  const TokenMask mask = added_tokens_.mask_with(policy.allowed_ids);
  TokenSink sink;
  sink.wants_sizes = true;
  LocatedIds located;
  auto state = pool_.take();
  Call(*this, mask, *state, sink, &located.ranges).encode(text);
  pool_.put(std::move(state));
  located.ids = std::move(sink.ids);
  return located;
}

template <typename Id>
RaggedIds<Id> Encoder::encode_batch(std::span<const std::string_view> texts,
                                    std::size_t num_threads, const SpecialTokenPolicy& policy,
                                    const Surroundings& surroundings,
                                    const std::function<void()>& pause) const {
  const TokenMask allowed = added_tokens_.mask_with(policy.allowed_ids);
  const TokenMask disallowed = added_tokens_.mask_of(policy.disallowed_ids);
  const auto& [before, after] = surroundings;
  const std::vector<std::size_t> begins = group_texts(texts);
  std::vector<std::vector<Id>> group_ids(begins.size() - 1);
  RaggedIds<Id> ragged;
  ragged.offsets.resize(texts.size() + 1);

  // offsets[i + 1] first holds the number of ids of text i
  parallel_for(group_ids.size(), num_threads, [&](std::size_t worker, std::size_t group) {
    if (worker == 0 && pause) pause();
    auto state = pool_.take();
    TokenSink sink;
    for (std::size_t i = begins[group]; i < begins[group + 1]; ++i) {
      if (!policy.disallowed_ids.empty()) {
        added_tokens_.refuse(texts[i], "text " + std::to_string(i), disallowed);
      }
      const std::size_t begin = sink.ids.size();
      sink.ids.insert(sink.ids.end(), before.begin(), before.end());
      Call(*this, allowed, *state, sink, nullptr).encode(texts[i]);
      sink.ids.insert(sink.ids.end(), after.begin(), after.end());
      ragged.offsets[i + 1] = static_cast<std::int64_t>(sink.ids.size() - begin);
    }
    group_ids[group] = narrowed<Id>(std::move(sink.ids));
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

template RaggedIds<std::uint16_t> Encoder::encode_batch(std::span<const std::string_view>,
                                                        std::size_t, const SpecialTokenPolicy&,
                                                        const Surroundings&,
                                                        const std::function<void()>&) const;
template RaggedIds<std::uint32_t> Encoder::encode_batch(std::span<const std::string_view>,
                                                        std::size_t, const SpecialTokenPolicy&,
                                                        const Surroundings&,
                                                        const std::function<void()>&) const;

}  // namespace weldlm
