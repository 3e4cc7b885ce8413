// What the scanners of patterns share: characters by class, runs of a class, and the parts that
// several patterns have in common.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tokenizer/unicode.hpp"

namespace weldlm {

inline constexpr CharClasses mark_classes = classes_of(CharClass::mark);
// [^\s\p{L}\p{N}]
inline constexpr CharClasses sign_classes = ~(space_classes | letter_classes | number_classes);

// Class of each ASCII byte; a byte above them asks for a decoded character.
inline constexpr std::uint8_t not_ascii = 0xFF;

constexpr std::array<std::uint8_t, 256> make_byte_classes() {
  std::array<std::uint8_t, 256> classes{};
  for (std::size_t byte = 0; byte < 256; ++byte) {
    classes[byte] =
        byte < 128 ? static_cast<std::uint8_t>(char_class(static_cast<char32_t>(byte))) : not_ascii;
  }
  return classes;
}

inline constexpr auto byte_classes = make_byte_classes();

// The character at `pos` < text.size().
inline Char classify(std::string_view text, std::size_t pos) noexcept {
  const std::uint8_t kind = byte_classes[static_cast<unsigned char>(text[pos])];
  if (kind != not_ascii) return {static_cast<CharClass>(kind), 1};
  return char_at(text, pos);
}

// The first position from `pos` on whose character is in none of the classes.
inline std::size_t skip(std::string_view text, std::size_t pos, CharClasses classes) noexcept {
  while (pos < text.size()) {
    const Char next = classify(text, pos);
    if (!classes.holds(next.kind)) return pos;
    pos += next.size;
  }
  return pos;
}

// As `skip`, over no more than `most` characters.
inline std::size_t skip_some(std::string_view text, std::size_t pos, CharClasses classes,
                             std::size_t most) noexcept {
  for (; most > 0 && pos < text.size(); --most) {
    const Char next = classify(text, pos);
    if (!classes.holds(next.kind)) return pos;
    pos += next.size;
  }
  return pos;
}

inline bool is_newline(char character) noexcept { return character == '\r' || character == '\n'; }

// Bytes of (?i:'s|'t|'re|'ve|'m|'ll|'d) at `start`; 0 if none is there. U+017F is a small s too.
std::size_t contraction_size(std::string_view text, std::size_t start) noexcept;

// White space from some position on.
struct SpaceRun {
  std::size_t last;            // where its last character begins
  std::size_t end;             // text.size() if nothing else follows
  std::size_t after_newlines;  // behind the last \r or \n in it; its begin without one
};

// `start` holds white space.
SpaceRun space_run(std::string_view text, std::size_t start) noexcept;

// \s+(?!\S)|\s+ : a run of white space leaves its last character to what follows it, unless the
// run is that one character or nothing follows.
inline std::size_t end_of_spaces(std::string_view text, std::size_t start,
                                 const SpaceRun& run) noexcept {
  return run.end == text.size() || run.last == start ? run.end : run.last;
}

// \s*[\r\n]+|\s+(?!\S)|\s+
inline std::size_t end_of_spaces_or_lines(std::string_view text, std::size_t start) noexcept {
  const SpaceRun run = space_run(text, start);
  return run.after_newlines > start ? run.after_newlines : end_of_spaces(text, start, run);
}

}  // namespace weldlm
