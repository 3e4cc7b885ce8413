// Code points: decoding from UTF-8 and the class that the patterns ask for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tokenizer/generated_unicode.hpp"

namespace weldlm {

enum class CharClass : std::uint8_t { other = 0, letter = 1, number = 2, space = 3 };

struct Char {
  CharClass kind;
  std::size_t size;  // bytes of UTF-8
};

inline CharClass char_class(char32_t code_point) noexcept {
  if (code_point >= 0x110000) return CharClass::other;
  const std::size_t block = unicode_tables::block_of[code_point >> 8];
  const std::uint64_t word = unicode_tables::class_words[block * 8 + ((code_point >> 5) & 7)];
  return static_cast<CharClass>((word >> ((code_point & 31) * 2)) & 3);
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
