// Code points to and from UTF-8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace weldlm {

// No code point: what a byte that starts no UTF-8 sequence is decoded to.
inline constexpr char32_t no_code_point = 0xFFFFFFFFu;

struct CodePoint {
  char32_t value;
  std::size_t size;  // bytes of UTF-8
};

// The character at `pos` < text.size().
inline CodePoint code_point_at(std::string_view text, std::size_t pos) noexcept {
  const auto byte = [&](std::size_t offset) -> char32_t {
    return static_cast<unsigned char>(text[pos + offset]);
  };
  const auto continues = [&](std::size_t offset) {
    return pos + offset < text.size() && (byte(offset) & 0xC0) == 0x80;
  };
  constexpr CodePoint broken{no_code_point, 1};
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xC0 || lead >= 0xF5 || !continues(1)) return broken;
  const char32_t second = byte(1) & 0x3F;
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | second, 2};
  if (!continues(2)) return broken;
  const char32_t third = byte(2) & 0x3F;
  if (lead < 0xF0) return {(lead & 0x0F) << 12 | second << 6 | third, 3};
  if (!continues(3)) return broken;
  const char32_t value = (lead & 0x07) << 18 | second << 12 | third << 6 | (byte(3) & 0x3F);
  return value < 0x110000 ? CodePoint{value, 4} : broken;
}

// `value` is below 0x110000.
inline void append_utf8(char32_t value, std::string& bytes) {
  const auto append = [&](char32_t byte) { bytes.push_back(static_cast<char>(byte)); };
  if (value < 0x80) {
    append(value);
    return;
  }
  if (value < 0x800) {
    append(0xC0 | value >> 6);
  } else {
    if (value < 0x10000) {
      append(0xE0 | value >> 12);
    } else {
      append(0xF0 | value >> 18);
      append(0x80 | (value >> 12 & 0x3F));
    }
    append(0x80 | (value >> 6 & 0x3F));
  }
  append(0x80 | (value & 0x3F));
}

}  // namespace weldlm
