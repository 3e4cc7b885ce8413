// What normalizers and BERT's pretokenizer ask of a code point; the answers are those of
// tokenizers 0.23. Code points are below 0x110000.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "tokenizer/generated_normalization.hpp"

namespace weldlm {

// In the order of generate_normalization.py.
enum CharFlag : std::uint32_t {
  dropped_char = 1u << 0,      // by the cleaning of BERT
  space_char = 1u << 1,        // white space
  punctuation_char = 1u << 2,  // of BERT: ASCII punctuation and P*
  nonspacing_char = 1u << 3,   // Mn: goes with the accents of BERT
  mark_char = 1u << 4,         // M*: goes with StripAccents
  lowered_char = 1u << 5,      // changes in lower case
  chinese_char = 1u << 6,      // of BERT
  canonical_joins = 1u << 7,   // may move or compose across the boundary before it
  compatible_joins = 1u << 8,  // the same in NFKC and NFKD
  reordered_char = 1u << 9,    // may have to move though the accents are gone
  nfc_changes = 1u << 10,      // the four forms change it
  nfd_changes = 1u << 11,
  nfkc_changes = 1u << 12,
  nfkd_changes = 1u << 13,
};

struct CharProperties {
  std::uint32_t word;

  std::uint32_t flags() const noexcept { return word & 0xFFFF; }
  bool has(std::uint32_t any_of) const noexcept { return (word & any_of) != 0; }
  std::uint8_t combining_class() const noexcept { return static_cast<std::uint8_t>(word >> 16); }
};

inline CharProperties properties_of(char32_t code_point) noexcept {
  namespace tables = normalization_tables;
  const std::size_t block = tables::property_block_of[code_point >> 8];
  return {tables::properties[tables::property_cells[block << 8 | (code_point & 0xFF)]]};
}

// Up to three parts of a Hangul syllable.
struct HangulParts {
  std::array<char32_t, 3> parts;
  std::size_t size;
};

constexpr bool is_hangul_syllable(char32_t code_point) noexcept {
  return code_point >= 0xAC00 && code_point < 0xAC00 + 11172;
}

constexpr HangulParts hangul_parts(char32_t syllable) noexcept {
  const char32_t index = syllable - 0xAC00;
  const char32_t tail = index % 28;
  return {{0x1100 + index / 588, 0x1161 + index % 588 / 28, 0x11A7 + tail}, tail == 0 ? 2u : 3u};
}

// The full decompositions, empty for a code point that has none and for Hangul syllables.
std::span<const char32_t> canonical_parts(char32_t code_point) noexcept;
std::span<const char32_t> compatible_parts(char32_t code_point) noexcept;

// In lower case, empty where that is the same. It does not depend on the neighbors.
std::span<const char32_t> lowered(char32_t code_point) noexcept;

// What the two compose to.
std::optional<char32_t> composition(char32_t first, char32_t second) noexcept;

}  // namespace weldlm
