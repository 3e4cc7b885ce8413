// Code points of UTF-8 text.
#pragma once

#include <cstddef>
#include <string_view>

#include "tokenizer/unicode.hpp"

namespace weldlm {

struct CodePoint {
  char32_t value;
  std::size_t size;  // bytes of UTF-8
};

// The code point at `pos` < text.size(). A byte that starts no sequence has a value beyond all code
// points, 0x110000 + the byte.
inline CodePoint code_point_at(std::string_view text, std::size_t pos) noexcept {
  const auto byte = [&](std::size_t offset) -> char32_t {
    return static_cast<unsigned char>(text[pos + offset]);
  };
  const std::size_t size = char_at(text, pos).size;
  if (size == 1) return {byte(0) < 0x80 ? byte(0) : 0x110000 + byte(0), 1};
  char32_t value = byte(0) & (0x7Fu >> size);
  for (std::size_t i = 1; i < size; ++i) value = value << 6 | (byte(i) & 0x3F);
  return {value, size};
}

inline bool is_valid_utf8(std::string_view text) noexcept {
  constexpr char32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
  for (std::size_t pos = 0; pos < text.size();) {
    const auto [value, size] = code_point_at(text, pos);
    const bool is_surrogate = value >= 0xD800 && value < 0xE000;
    if (value >= 0x110000 || value < smallest[size] || is_surrogate) return false;
    pos += size;
  }
  return true;
}

}  // namespace weldlm
