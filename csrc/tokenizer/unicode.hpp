// Code points: decoding from UTF-8 and the class that the patterns ask for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tokenizer/generated_unicode.hpp"

namespace weldlm {

// The general category, as far as patterns ask for it; white space goes before it. The numbers are
// those of generate_unicode.py.
enum class CharClass : std::uint8_t {
  other = 0,  // control, format, private use, surrogate
  uppercase = 1,
  lowercase = 2,
  titlecase = 3,
  modifier_letter = 4,
  other_letter = 5,
  mark = 6,
  digit = 7,         // Nd
  other_number = 8,  // Nl, No
  space = 9,         // the White_Space property
  punctuation = 10,
  symbol = 11,
  unassigned = 12,
};

// Several classes, a bit for each.
struct CharClasses {
  std::uint32_t bits = 0;

  constexpr bool holds(CharClass kind) const noexcept {
    return (bits >> static_cast<unsigned>(kind) & 1) != 0;
  }
  constexpr CharClasses operator|(CharClasses more) const noexcept { return {bits | more.bits}; }
  // All classes but these.
  constexpr CharClasses operator~() const noexcept { return {~bits}; }
};

constexpr CharClasses classes_of(auto... kinds) noexcept {
  return {((std::uint32_t{1} << static_cast<unsigned>(kinds)) | ...)};
}

inline constexpr CharClasses letter_classes =
    classes_of(CharClass::uppercase, CharClass::lowercase, CharClass::titlecase,
               CharClass::modifier_letter, CharClass::other_letter);
inline constexpr CharClasses number_classes = classes_of(CharClass::digit, CharClass::other_number);
inline constexpr CharClasses space_classes = classes_of(CharClass::space);

struct Char {
  CharClass kind;
  std::size_t size;  // bytes of UTF-8
};

constexpr CharClass char_class(char32_t code_point) noexcept {
  if (code_point >= 0x110000) return CharClass::other;
  const std::size_t block = unicode_tables::block_of[code_point >> 8];
  const std::uint64_t word = unicode_tables::class_words[block * 16 + ((code_point >> 4) & 15)];
  return static_cast<CharClass>(word >> ((code_point & 15) * 4) & 15);
}

inline bool is_continuation(std::string_view text, std::size_t pos) noexcept {
  return pos < text.size() && (static_cast<unsigned char>(text[pos]) & 0xC0) == 0x80;
}

// The character at `pos` < text.size(). A byte that starts no UTF-8 sequence is one `other`.
inline Char char_at(std::string_view text, std::size_t pos) noexcept {
  const auto byte = [&](std::size_t offset) -> char32_t {
    return static_cast<unsigned char>(text[pos + offset]);
  };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {char_class(lead), 1};
  if (lead < 0xC0 || !is_continuation(text, pos + 1)) return {CharClass::other, 1};
  const char32_t second = byte(1) & 0x3F;
  if (lead < 0xE0) return {char_class((lead & 0x1F) << 6 | second), 2};
  if (!is_continuation(text, pos + 2)) return {CharClass::other, 1};
  const char32_t third = byte(2) & 0x3F;
  if (lead < 0xF0) return {char_class((lead & 0x0F) << 12 | second << 6 | third), 3};
  if (!is_continuation(text, pos + 3)) return {CharClass::other, 1};
  const char32_t fourth = byte(3) & 0x3F;
  return {char_class((lead & 0x07) << 18 | second << 12 | third << 6 | fourth), 4};
}

}  // namespace weldlm
