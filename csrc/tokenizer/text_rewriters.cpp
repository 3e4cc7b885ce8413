#include "tokenizer/text_rewriters.hpp"

#include <algorithm>
#include <stdexcept>

#include "tokenizer/code_points.hpp"
#include "tokenizer/graphemes.hpp"
#include "tokenizer/unicode.hpp"

namespace weldlm {
namespace {

// Longer grapheme clusters are taken character by character.
constexpr std::size_t max_cluster_bytes = 5;

bool is_space(std::string_view text, std::size_t pos) noexcept {
  return char_at(text, pos).kind == CharClass::space;
}

// The first place from `pos` on where white space begins, or ends.
std::size_t find_space(std::string_view text, std::size_t pos, bool is_wanted) noexcept {
  while (pos < text.size() && is_space(text, pos) != is_wanted) pos += char_at(text, pos).size;
  return pos;
}

// Copies source[begin, end) with every space replaced.
void copy_with_spaces(const NormalizedText& source, std::size_t begin, std::size_t end,
                      std::string_view replacement, NormalizedText& result) {
  while (begin < end) {
    const std::size_t space = std::min(source.text().find(' ', begin), end);
    if (space > begin) result.copy(source, begin, space);
    if (space < end) result.replace(source, space, space + 1, replacement);
    begin = space + 1;
  }
}

// Puts `bytes` in front of the character at `pos`, which they stand for, too.
void prepend(const NormalizedText& source, std::size_t pos, std::string_view bytes,
             NormalizedText& result) {
  const std::size_t size = source.text().empty() ? 0 : char_at(source.text(), pos).size;
  result.replace(source, pos, pos + size, bytes);
}

// Writes a rewritten text whose parts stand for all of what they replace.
class WholePlaces {
 public:
  WholePlaces(const NormalizedText& source, NormalizedText& result)
      : source_(source), result_(result) {}

  void keep(std::size_t begin, std::size_t end) { result_.copy(source_, begin, end); }
  void replace(std::size_t begin, std::size_t end, std::string_view bytes) {
    result_.replace(source_, begin, end, bytes);
  }
  void finish() {}

 private:
  const NormalizedText& source_;
  NormalizedText& result_;
};

// Writes a rewritten text with the places that offsets of the tokenizers library show: a character
// takes that of the next one of the source, in turn; one that a rule adds repeats the place before
// it; and those that a rule removes are passed over behind the last one, or, where there is none
// yet, not at all, which moves all places behind them.
class ShownPlaces {
 public:
  ShownPlaces(const NormalizedText& source, NormalizedText& result)
      : source_(source), text_(source.text()), result_(result) {}

  void keep(std::size_t begin, std::size_t end) {
    for (std::size_t next = begin; begin < end; begin = next) {
      next = begin + char_at(text_, begin).size;
      push(begin, text_.substr(begin, next - begin), 0);
    }
  }

  void replace(std::size_t begin, std::size_t end, std::string_view bytes) {
    std::ptrdiff_t left = num_chars(text_.substr(begin, end - begin));
    for (std::size_t pos = 0, size = 0; pos < bytes.size(); pos += size) {
      size = char_at(bytes, pos).size;
      push(begin, bytes.substr(pos, size), left > 0 ? 0 : 1);
      --left;
    }
    if (left > 0) change_ -= left;
  }

  void finish() {
    if (pending_.empty()) return;
    if (change_ > 0) {
      std::size_t before = place_;
      while (before > 0 && is_continuation(text_, --before)) {
      }
      result_.replace_showing(source_, begin_, {before, place_}, pending_);
    } else {
      const std::size_t before = place_;
      pass();
      result_.replace_showing(source_, begin_, {before, place_}, pending_);
      for (; change_ < 0; ++change_) pass();
    }
    pending_ = {};
  }

 private:
  static std::ptrdiff_t num_chars(std::string_view text) {
    std::ptrdiff_t count = 0;
    for (std::size_t pos = 0; pos < text.size(); pos += char_at(text, pos).size) ++count;
    return count;
  }

  // `character` comes from the source at `begin`; change 1: it is added.
  void push(std::size_t begin, std::string_view character, std::ptrdiff_t change) {
    finish();
    begin_ = begin;
    pending_ = character;
    change_ = change;
  }

  void pass() {
    if (place_ < text_.size()) place_ += char_at(text_, place_).size;
  }

  const NormalizedText& source_;
  std::string_view text_;
  NormalizedText& result_;
  std::size_t place_ = 0;     // in the source: what is before it has been passed over
  std::string_view pending_;  // the last character, which what is removed behind it changes
  std::size_t begin_ = 0;
  std::ptrdiff_t change_ = 0;  // 1: added; below 0: so many are removed behind it
};

bool is_dropped_by_nmt(char32_t value) noexcept {
  return (value >= 0x01 && value <= 0x08) || value == 0x0B || (value >= 0x0E && value <= 0x1F) ||
         value == 0x7F || value == 0x8F || value == 0x9F;
}

bool is_space_of_nmt(char32_t value) noexcept {
  return value == 0x09 || value == 0x0A || value == 0x0C || value == 0x0D || value == 0x1680 ||
         (value >= 0x200B && value <= 0x200F) || value == 0x2028 || value == 0x2029 ||
         value == 0x2581 || value == 0xFEFF || value == 0xFFFD;
}

}  // namespace

void Precompiled::normalize(const NormalizedText& source, bool /*is_start*/,
                            NormalizedText& result) const {
  result.restart(source);
  if (source.origins() == Origins::offsets) {
    rewrite(source.text(), ShownPlaces(source, result));
  } else {
    rewrite(source.text(), WholePlaces(source, result));
  }
}

template <typename Output>
void Precompiled::rewrite(std::string_view text, Output output) const {
  const auto replaces = [&](std::size_t begin, std::size_t end) {
    const auto match = charsmap_->shortest(text.substr(begin, end - begin));
    if (match) output.replace(begin, end, match->replacement);
    return match.has_value();
  };
  std::size_t copied = 0;
  for (std::size_t pos = 0; pos < text.size();) {
    const auto byte = static_cast<unsigned char>(text[pos]);
    const bool is_alone =
        pos + 1 == text.size() || static_cast<unsigned char>(text[pos + 1]) < 0x80;
    if (byte < 0x80 && is_alone && byte != '\r' && charsmap_->is_plain(byte)) {
      ++pos;
      continue;
    }
    if (pos > copied) output.keep(copied, pos);
    const std::size_t end = grapheme_end(text, pos);
    if (end - pos > max_cluster_bytes || !replaces(pos, end)) {
      for (std::size_t next = pos; pos < end; pos = next) {
        next = pos + char_at(text, pos).size;
        if (!replaces(pos, next)) output.keep(pos, next);
      }
    }
    pos = copied = end;
  }
  if (copied < text.size()) output.keep(copied, text.size());
  output.finish();
}

void Prepend::normalize(const NormalizedText& source, bool /*is_start*/,
                        NormalizedText& result) const {
  result.restart(source);
  if (source.text().empty()) return;
  prepend(source, 0, content_, result);
  result.copy(source, 0, source.text().size());
}

Replace::Replace(std::string pattern, std::size_t least, std::string content)
    : pattern_(std::move(pattern)), least_(least), content_(std::move(content)) {
  if (pattern_.empty()) throw std::invalid_argument("the pattern of a Replace is empty");
}

void Replace::normalize(const NormalizedText& source, bool /*is_start*/,
                        NormalizedText& result) const {
  result.restart(source);
  const std::string_view text = source.text();
  std::size_t copied = 0;
  for (std::size_t pos = text.find(pattern_); pos < text.size(); pos = text.find(pattern_, pos)) {
    std::size_t end = pos + pattern_.size();
    std::size_t count = 1;
    while (least_ > 0 && text.substr(end, pattern_.size()) == pattern_) {
      end += pattern_.size();
      ++count;
    }
    if (count >= least_) {
      if (pos > copied) result.copy(source, copied, pos);
      result.replace_at_end(source, pos, end, content_);
      copied = end;
    }
    pos = end;
  }
  if (copied < text.size()) result.copy(source, copied, text.size());
}

void Strip::normalize(const NormalizedText& source, bool /*is_start*/,
                      NormalizedText& result) const {
  result.restart(source);
  const std::string_view text = source.text();
  const std::size_t begin = left_ ? find_space(text, 0, false) : 0;
  std::size_t end = text.size();
  if (right_) {
    end = begin;
    for (std::size_t pos = begin; pos < text.size();) {
      const Char next = char_at(text, pos);
      pos += next.size;
      if (next.kind != CharClass::space) end = pos;
    }
  }
  if (end > begin) result.copy(source, begin, end);
}

StripRuns::StripRuns(std::string pattern, bool left, bool right)
    : pattern_(std::move(pattern)), left_(left), right_(right) {
  if (pattern_.empty()) throw std::invalid_argument("the pattern of a StripRuns is empty");
}

void StripRuns::normalize(const NormalizedText& source, bool /*is_start*/,
                          NormalizedText& result) const {
  result.restart(source);
  std::string_view kept = source.text();
  while (left_ && kept.starts_with(pattern_)) kept.remove_prefix(pattern_.size());
  const std::size_t begin = source.text().size() - kept.size();
  while (right_ && kept.ends_with(pattern_)) kept.remove_suffix(pattern_.size());
  if (!kept.empty()) result.copy(source, begin, begin + kept.size());
}

void Nmt::normalize(const NormalizedText& source, bool /*is_start*/, NormalizedText& result) const {
  result.restart(source);
  const std::string_view text = source.text();
  std::size_t copied = 0;
  for (std::size_t pos = 0; pos < text.size();) {
    const auto [value, size] = code_point_at(text, pos);
    const bool is_dropped = is_dropped_by_nmt(value);
    if (is_dropped || is_space_of_nmt(value)) {
      if (pos > copied) result.copy(source, copied, pos);
      if (!is_dropped) result.replace(source, pos, pos + size, " ");
      copied = pos + size;
    }
    pos += size;
  }
  if (copied < text.size()) result.copy(source, copied, text.size());
}

void Metaspace::normalize(const NormalizedText& source, bool is_start,
                          NormalizedText& result) const {
  result.restart(source);
  const std::string_view text = source.text();
  const bool has_one = text.starts_with(' ') || text.starts_with(replacement_);
  const bool is_first = is_start && source.begins_original();
  const bool is_prefixed =
      scheme_ == PrependScheme::always || (scheme_ == PrependScheme::first && is_first);
  if (is_prefixed && !has_one) prepend(source, 0, replacement_, result);
  copy_with_spaces(source, 0, text.size(), replacement_, result);
}

void MetaspaceWords::normalize(const NormalizedText& source, bool /*is_start*/,
                               NormalizedText& result) const {
  result.restart(source);
  const std::string_view text = source.text();
  for (std::size_t begin = find_space(text, 0, false); begin < text.size();) {
    const std::size_t end = find_space(text, begin, true);
    if (!text.substr(begin).starts_with(replacement_)) {
      prepend(source, begin, replacement_, result);
    }
    result.copy(source, begin, end);
    begin = find_space(text, end, false);
  }
}

DelimiterCutter::DelimiterCutter(std::string delimiter) : delimiter_(std::move(delimiter)) {
  if (delimiter_.empty()) throw std::invalid_argument("the delimiter of pieces is empty");
}

std::size_t DelimiterCutter::split(std::string_view text, std::size_t start,
                                   std::vector<ByteRange>& pieces) const {
  for (std::size_t count = 0; count < batch_size && start < text.size(); ++count) {
    const bool begins_with_one = text.substr(start).starts_with(delimiter_);
    const std::size_t end = std::min(
        text.find(delimiter_, start + (begins_with_one ? delimiter_.size() : 1)), text.size());
    pieces.push_back({start, end});
    start = end;
  }
  return start;
}

std::size_t WhitespaceSplit::split(std::string_view text, std::size_t start,
                                   std::vector<ByteRange>& pieces) const {
  for (std::size_t count = 0; count < batch_size && start < text.size(); ++count) {
    const std::size_t begin = find_space(text, start, false);
    start = find_space(text, begin, true);
    if (start > begin) pieces.push_back({begin, start});
  }
  return start;
}

}  // namespace weldlm
