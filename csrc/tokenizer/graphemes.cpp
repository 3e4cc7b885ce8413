#include "tokenizer/graphemes.hpp"

#include <algorithm>
#include <cstdint>

#include "tokenizer/code_points.hpp"
#include "tokenizer/generated_graphemes.hpp"

namespace weldlm {
namespace {

// In the order of generate_graphemes.py; the last two are computed.
enum class GraphemeClass : std::uint8_t {
  other,
  control,
  joiner,
  linker,
  extend,
  spacing_mark,
  prepend,
  leading,
  vowel,
  trailing,
  regional,
  consonant,
  pictograph,
  syllable,           // of a leading consonant and a vowel
  complete_syllable,  // with a trailing consonant, too
};

GraphemeClass class_of(char32_t code_point) noexcept {
  using enum GraphemeClass;
  if (code_point < 0x80) return code_point < 0x20 || code_point == 0x7F ? control : other;
  if (code_point >= 0xAC00 && code_point < 0xD7A4) {
    return (code_point - 0xAC00) % 28 == 0 ? syllable : complete_syllable;
  }
  const auto& changes = grapheme_tables::changes;
  const auto above = std::upper_bound(changes.begin(), changes.end(),
                                      static_cast<std::uint32_t>(code_point) << 4 | 0xF);
  if (code_point >= 0x110000) return other;
  return above == changes.begin() ? other : static_cast<GraphemeClass>(above[-1] & 0xF);
}

// What has been seen of a cluster.
struct Cluster {
  GraphemeClass last;
  bool has_pictograph;  // a pictograph and what extends it, and nothing else
  bool has_consonant;   // the same of an Indic consonant
  bool has_linker = false;
  bool is_joined = false;  // the last one is a joiner
  bool is_pair = false;    // of regional indicators

  explicit Cluster(GraphemeClass first) noexcept
      : last(first),
        has_pictograph(first == GraphemeClass::pictograph),
        has_consonant(first == GraphemeClass::consonant) {}

  bool takes(GraphemeClass next) const noexcept {
    using enum GraphemeClass;
    if (last == control || next == control) return false;
    const bool is_extended = next == extend || next == linker || next == joiner;
    if (is_extended || next == spacing_mark || last == prepend) return true;
    switch (next) {
      case leading:
      case syllable:
      case complete_syllable:
        return last == leading;
      case vowel:
        return last == leading || last == vowel || last == syllable;
      case trailing:
        return last == vowel || last == trailing || last == syllable || last == complete_syllable;
      case pictograph:
        return has_pictograph && is_joined;
      case consonant:
        return has_consonant && has_linker;
      case regional:
        return last == regional && !is_pair;
      default:
        return false;
    }
  }

  void add(GraphemeClass next) noexcept {
    using enum GraphemeClass;
    const bool extends = next == extend || next == linker || next == joiner;
    is_pair = next == regional && last == regional;
    is_joined = next == joiner;
    has_pictograph = next == pictograph || (extends && has_pictograph);
    has_linker = extends && has_consonant && (has_linker || next == linker);
    has_consonant = next == consonant || (extends && has_consonant);
    last = next;
  }
};

}  // namespace

std::size_t grapheme_end(std::string_view text, std::size_t start) noexcept {
  if (text.substr(start, 2) == "\r\n") return start + 2;
  const auto [first, size] = code_point_at(text, start);
  std::size_t end = start + size;
  Cluster cluster(class_of(first));
  while (end < text.size()) {
    const auto [value, next_size] = code_point_at(text, end);
    const GraphemeClass next = class_of(value);
    if (!cluster.takes(next)) break;
    cluster.add(next);
    end += next_size;
  }
  return end;
}

}  // namespace weldlm
