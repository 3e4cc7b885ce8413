#include "tokenizer/spiece_normalizer.hpp"

#include <utility>

#include "tokenizer/metaspace_cuts.hpp"
#include "tokenizer/trie_search.hpp"
#include "tokenizer/unicode.hpp"

namespace weldlm {
namespace {

constexpr std::string_view replacement_character = "\xEF\xBF\xBD";

PrefixTrie trie_of(const std::vector<std::string>& strings) {
  std::vector<PrefixTrie::Entry> pieces;
  for (const std::string& string : strings) pieces.push_back({string, 0});
  return PrefixTrie(std::move(pieces));
}

bool ends_with_space(std::string_view bytes) noexcept {
  return !bytes.empty() && bytes.back() == ' ';
}

}  // namespace

// One text on its way. The last characters wait until it is known where the next ones come from.
class SpieceNormalizer::Run {
 public:
  Run(const SpieceNormalizer& normalizer, const NormalizedText& source, NormalizedText& result)
      : normalizer_(normalizer),
        options_(normalizer.options_),
        source_(source),
        text_(source.text()),
        result_(result) {}

  void run() {
    if (options_.remove_extra_whitespaces) skip_spaces();
    if (pos_ == text_.size()) return;
    const bool has_prefix = options_.add_dummy_prefix && !options_.treat_whitespace_as_suffix;
    if (has_prefix) add(normalizer_.space_);
    bool is_behind_space = options_.remove_extra_whitespaces;
    while (pos_ < text_.size()) {
      if (copy_plain()) is_behind_space = false;
      if (pos_ < text_.size()) is_behind_space = add_chunk(is_behind_space);
    }
    flush();
    if (options_.remove_extra_whitespaces) remove_trailing_spaces();
    if (options_.add_dummy_prefix && !has_prefix) {
      result_.replace(source_, text_.size(), text_.size(), normalizer_.space_);
    }
  }

 private:
  void skip_spaces() {
    while (pos_ < text_.size()) {
      const Chunk chunk = normalizer_.next_chunk(text_, pos_);
      if (chunk.bytes != " ") break;
      pos_ += chunk.size;
    }
  }

  // Copies characters that no rule changes; the one behind them is not dropped.
  bool copy_plain() {
    const std::size_t end = normalizer_.plain_end(text_, pos_);
    if (end == pos_) return false;
    flush();
    result_.copy(source_, pos_, end);
    pos_ = begin_ = end;
    return true;
  }

  // Returns whether a space at `pos_` would be an extra one.
  bool add_chunk(bool is_behind_space) {
    const Chunk chunk = normalizer_.next_chunk(text_, pos_);
    std::string_view bytes = chunk.bytes;
    while (is_behind_space && bytes.starts_with(' ')) bytes.remove_prefix(1);
    if (!bytes.empty()) {
      flush();
      for (const char byte : bytes)
        add(byte == ' ' ? normalizer_.space_ : std::string_view(&byte, 1));
      is_behind_space = options_.remove_extra_whitespaces && ends_with_space(bytes);
    }
    pos_ += chunk.size;
    return is_behind_space;
  }

  void add(std::string_view bytes) {
    if (waiting_.empty()) begin_ = pos_;
    waiting_ += bytes;
  }

  void flush() {
    if (!waiting_.empty()) result_.replace(source_, begin_, pos_, waiting_);
    waiting_.clear();
    begin_ = pos_;
  }

  void remove_trailing_spaces() {
    std::string_view kept = result_.text();
    while (kept.ends_with(normalizer_.space_)) kept.remove_suffix(normalizer_.space_.size());
    result_.truncate(kept.size());
  }

  const SpieceNormalizer& normalizer_;
  const SpaceOptions& options_;
  const NormalizedText& source_;
  std::string_view text_;
  NormalizedText& result_;
  std::string waiting_;  // stands for [begin_, what comes next)
  std::size_t begin_ = 0;
  std::size_t pos_ = 0;
};

SpieceNormalizer::SpieceNormalizer(std::shared_ptr<const Charsmap> charsmap, SpaceOptions options,
                                   const std::vector<std::string>& kept)
    : charsmap_(std::move(charsmap)),
      options_(options),
      kept_(trie_of(kept)),
      space_(options.escape_whitespaces ? metaspace : " ") {
  for (std::size_t byte = 0; byte < is_plain_.size(); ++byte) {
    is_plain_[byte] =
        byte < 0x80 && byte != ' ' &&
        (charsmap_ == nullptr || charsmap_->is_plain(static_cast<unsigned char>(byte)));
  }
  for (const std::string& string : kept) {
    if (!string.empty()) is_plain_[static_cast<unsigned char>(string.front())] = false;
  }
}

void SpieceNormalizer::normalize(const NormalizedText& source, bool /*is_start*/,
                                 NormalizedText& result) const {
  result.restart(source);
  Run(*this, source, result).run();
}

SpieceNormalizer::Chunk SpieceNormalizer::next_chunk(std::string_view text,
                                                     std::size_t pos) const noexcept {
  if (const std::size_t size = longest_key(kept_, text, pos).size; size > 0) {
    return {size, text.substr(pos, size)};
  }
  if (charsmap_ != nullptr) {
    if (const auto match = charsmap_->longest(text.substr(pos))) {
      return {match->size, match->replacement};
    }
  }
  const std::size_t size = char_at(text, pos).size;
  const bool is_broken = size == 1 && static_cast<unsigned char>(text[pos]) >= 0x80;
  return {size, is_broken ? replacement_character : text.substr(pos, size)};
}

// The end of the characters from `pos` on that are copied as they are, and that have ASCII or
// nothing behind them.
std::size_t SpieceNormalizer::plain_end(std::string_view text, std::size_t pos) const noexcept {
  std::size_t end = pos;
  while (end < text.size() && is_plain_[static_cast<unsigned char>(text[end])]) ++end;
  if (end == text.size() || text[end] == ' ' || end == pos) return end;
  return end - 1;
}

}  // namespace weldlm
