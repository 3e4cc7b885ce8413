#include "tokenizer/bert.hpp"

#include <algorithm>
#include <span>
#include <utility>

#include "tokenizer/canonical_order.hpp"
#include "tokenizer/char_properties.hpp"
#include "tokenizer/code_points.hpp"

namespace weldlm {
namespace {

constexpr std::size_t block_size = 32;

bool is_ascii(std::string_view text, std::size_t pos) noexcept {
  return static_cast<unsigned char>(text[pos]) < 0x80;
}

enum class PieceKind : std::uint8_t { word, space, punctuation };

constexpr std::array<PieceKind, 128> find_ascii_kinds() {
  std::array<PieceKind, 128> kinds{};
  for (std::size_t byte = 0; byte < kinds.size(); ++byte) {
    const bool is_alphanumeric = (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') ||
                                 (byte >= 'a' && byte <= 'z');
    if (byte == ' ' || (byte >= '\t' && byte <= '\r')) {
      kinds[byte] = PieceKind::space;
    } else if (byte > ' ' && byte < 0x7F && !is_alphanumeric) {
      kinds[byte] = PieceKind::punctuation;
    }
  }
  return kinds;
}

constexpr std::array<PieceKind, 128> ascii_kinds = find_ascii_kinds();

struct KindAndSize {
  PieceKind kind;
  std::size_t size;
};

KindAndSize kind_at(std::string_view text, std::size_t pos) noexcept {
  if (is_ascii(text, pos)) return {ascii_kinds[static_cast<unsigned char>(text[pos])], 1};
  const auto [value, size] = code_point_at(text, pos);
  if (value == no_code_point) return {PieceKind::word, size};
  const CharProperties properties = properties_of(value);
  if (!properties.has(space_char | punctuation_char)) return {PieceKind::word, size};
  return {properties.has(space_char) ? PieceKind::space : PieceKind::punctuation, size};
}

}  // namespace

// Kept between the changed characters of one text.
struct BertNormalizer::Scratch {
  std::string bytes;
  std::vector<char32_t> chars;
  std::vector<NormalizedChar> parts;
  std::vector<ByteRange> sources;  // of the characters that fell into the parts
};

BertNormalizer::BertNormalizer(const BertNormalizerOptions& options)
    : options_(options), changing_flags_(0) {
  if (options.clean_text) changing_flags_ |= dropped_char | space_char;
  if (options.handle_chinese_chars) changing_flags_ |= chinese_char;
  if (options.strip_accents) changing_flags_ |= nfd_changes | nonspacing_char | reordered_char;
  if (options.lowercase) changing_flags_ |= lowered_char;
  for (std::size_t byte = 0; byte < ascii_.size(); ++byte) {
    char result = static_cast<char>(byte);
    const CharProperties properties = properties_of(static_cast<char32_t>(byte));
    if (options.clean_text && properties.has(dropped_char)) {
      result = 0;
    } else if (options.clean_text && properties.has(space_char)) {
      result = ' ';
    } else if (options.lowercase && byte >= 'A' && byte <= 'Z') {
      result = static_cast<char>(byte | 0x20);
    }
    ascii_[byte] = result;
  }
}

void BertNormalizer::normalize(const NormalizedText& source, bool, NormalizedText& result) const {
  result.restart(source);
  const std::string_view text = source.text();
  Scratch scratch;
  for (std::size_t pos = 0; pos < text.size();) {
    pos = append_ascii(source, pos, result);
    pos = append_unchanged(source, pos, result);
    if (pos < text.size() && !is_ascii(text, pos)) {
      pos = append_changed(source, pos, scratch, result);
    }
  }
}

// Returns the first byte from `pos` on that is not ASCII.
std::size_t BertNormalizer::append_ascii(const NormalizedText& source, std::size_t pos,
                                         NormalizedText& result) const {
  const std::string_view text = source.text();
  std::array<char, block_size> bytes;
  while (pos < text.size() && is_ascii(text, pos)) {
    const std::size_t most = std::min(block_size, text.size() - pos);
    std::size_t size = 0;
    for (; size < most && is_ascii(text, pos + size); ++size) {
      bytes[size] = ascii_[static_cast<unsigned char>(text[pos + size])];
      if (bytes[size] == 0) break;
    }
    result.substitute(source, pos, {bytes.data(), size});
    pos += size;
    if (size < most && is_ascii(text, pos)) {
      // of 0 nothing is left, but for a 0 that is not cleaned
      if (!options_.clean_text) result.copy(source, pos, pos + 1);
      ++pos;
    }
  }
  return pos;
}

// Returns the first byte from `pos` on that is ASCII or begins a character that changes.
std::size_t BertNormalizer::append_unchanged(const NormalizedText& source, std::size_t pos,
                                             NormalizedText& result) const {
  const std::string_view text = source.text();
  const std::size_t begin = pos;
  while (pos < text.size() && !is_ascii(text, pos)) {
    const auto [value, size] = code_point_at(text, pos);
    if (value != no_code_point && properties_of(value).has(changing_flags_)) break;
    pos += size;
  }
  result.copy(source, begin, pos);
  return pos;
}

// Appends what becomes of the character at `pos`; returns the one to go on with.
std::size_t BertNormalizer::append_changed(const NormalizedText& source, std::size_t pos,
                                           Scratch& scratch, NormalizedText& result) const {
  const auto [value, size] = code_point_at(source.text(), pos);
  const std::size_t end = pos + size;
  const CharProperties properties{properties_of(value).word & changing_flags_};
  if (properties.has(dropped_char)) return end;
  if (properties.has(reordered_char)) return append_reordered(source, pos, scratch, result);

  scratch.bytes.clear();
  if (properties.has(space_char)) {
    scratch.bytes = " ";
  } else {
    scratch.chars.clear();
    append_stripped(value, scratch.chars);
    const bool is_chinese = properties.has(chinese_char);
    if (is_chinese) scratch.bytes = " ";
    for (const char32_t part : scratch.chars) append_lowered(part, scratch.bytes);
    if (is_chinese) scratch.bytes += ' ';
  }
  result.replace(source, pos, end, scratch.bytes);
  return end;
}

// Characters of a combining class that are no accents: they are brought into canonical order with
// all marks behind their starter, which is appended already where it is not at `pos`.
std::size_t BertNormalizer::append_reordered(const NormalizedText& source, std::size_t pos,
                                             Scratch& scratch, NormalizedText& result) const {
  const std::string_view text = source.text();
  scratch.parts.clear();
  scratch.sources.clear();
  std::size_t end = starter_before(text, pos);
  const bool has_starter = end < pos;
  while (end < text.size()) {
    const auto [value, size] = code_point_at(text, end);
    if (end > pos && !is_moved(value)) break;
    if (!(options_.clean_text && properties_of(value).has(dropped_char))) {
      append_canonical_parts(value, scratch.parts);
      scratch.sources.push_back({end, end + size});
    }
    end += size;
  }
  order_marks(scratch.parts);

  std::size_t used = 0;
  for (const auto& [value, num_replaced] : scratch.parts) {
    used += static_cast<std::size_t>(num_replaced);
    const CharProperties properties = properties_of(value);
    const bool is_appended = has_starter && properties.combining_class() == 0;
    if (is_appended || properties.has(nonspacing_char)) continue;
    scratch.bytes.clear();
    append_lowered(value, scratch.bytes);
    const ByteRange& place = scratch.sources[used - 1];
    result.replace(source, place.begin, place.end, scratch.bytes);
  }
  return end;
}

// Whether it may move before marks that precede it; what is cleaned away does not stand between.
bool BertNormalizer::is_moved(char32_t value) const noexcept {
  if (value == no_code_point) return false;
  const CharProperties properties = properties_of(value);
  if (options_.clean_text && properties.has(dropped_char)) return true;
  // U+0F73 and its like have class 0, but no part of them has
  return properties.combining_class() != 0 ||
         (properties.has(nfd_changes) && properties.has(canonical_joins));
}

// The character before `pos` and the marks before that, or `pos` if it is none of them.
std::size_t BertNormalizer::starter_before(std::string_view text, std::size_t pos) const noexcept {
  std::size_t begin = pos;
  for (char32_t value = code_point_at(text, pos).value; begin > 0 && is_moved(value);) {
    std::size_t before = begin - 1;
    while (before > 0 && (static_cast<unsigned char>(text[before]) & 0xC0) == 0x80) --before;
    const CodePoint found = code_point_at(text, before);
    if (found.value == no_code_point || before + found.size != begin) break;
    value = found.value;
    begin = before;
  }
  return begin;
}

// Appends the character without accents where they are stripped.
void BertNormalizer::append_stripped(char32_t value, std::vector<char32_t>& chars) const {
  if (!options_.strip_accents) {
    chars.push_back(value);
    return;
  }
  if (is_hangul_syllable(value)) {
    const HangulParts hangul = hangul_parts(value);
    chars.insert(chars.end(), hangul.parts.begin(),
                 hangul.parts.begin() + static_cast<std::ptrdiff_t>(hangul.size));
    return;
  }
  auto parts = canonical_parts(value);
  if (parts.empty()) parts = std::span(&value, 1);
  for (const char32_t part : parts) {
    if (!properties_of(part).has(nonspacing_char)) chars.push_back(part);
  }
}

void BertNormalizer::append_lowered(char32_t value, std::string& bytes) const {
  if (options_.lowercase && properties_of(value).has(lowered_char)) {
    for (const char32_t part : lowered(value)) append_utf8(part, bytes);
  } else {
    append_utf8(value, bytes);
  }
}

std::size_t BertPretokenizer::split(std::string_view text, std::size_t start,
                                    std::vector<ByteRange>& pieces) const {
  const std::size_t most = pieces.size() + batch_size;
  std::size_t pos = start;
  while (pos < text.size() && pieces.size() < most) {
    const auto [kind, size] = kind_at(text, pos);
    const std::size_t begin = pos;
    pos += size;
    if (kind == PieceKind::space) continue;
    if (kind == PieceKind::word) {
      for (; pos < text.size();) {
        const auto [next_kind, next_size] = kind_at(text, pos);
        if (next_kind != PieceKind::word) break;
        pos += next_size;
      }
    }
    pieces.push_back({begin, pos});
  }
  return pos;
}

}  // namespace weldlm
