#include "tokenizer/char_properties.hpp"

#include <algorithm>

namespace weldlm {
namespace {

namespace tables = normalization_tables;

template <typename Blocks, typename Cells, typename Offsets, typename Parts>
std::span<const char32_t> parts_in(const Blocks& block_of, const Cells& cells,
                                   const Offsets& offsets, const Parts& parts,
                                   char32_t code_point) noexcept {
  const std::size_t block = block_of[code_point >> 8];
  const std::size_t cell = cells[block << 8 | (code_point & 0xFF)];
  if (cell == 0) return {};
  return std::span(parts).subspan(offsets[cell - 1],
                                  std::size_t{offsets[cell]} - offsets[cell - 1]);
}

std::optional<char32_t> hangul_composition(char32_t first, char32_t second) noexcept {
  if (first >= 0x1100 && first < 0x1100 + 19 && second >= 0x1161 && second < 0x1161 + 21) {
    return 0xAC00 + ((first - 0x1100) * 21 + (second - 0x1161)) * 28;
  }
  const bool has_no_tail = is_hangul_syllable(first) && (first - 0xAC00) % 28 == 0;
  if (has_no_tail && second > 0x11A7 && second < 0x11A7 + 28) return first + (second - 0x11A7);
  return std::nullopt;
}

}  // namespace

std::span<const char32_t> canonical_parts(char32_t code_point) noexcept {
  return parts_in(tables::canonical_block_of, tables::canonical_cells, tables::canonical_offsets,
                  tables::canonical_parts, code_point);
}

std::span<const char32_t> compatible_parts(char32_t code_point) noexcept {
  return parts_in(tables::compatible_block_of, tables::compatible_cells, tables::compatible_offsets,
                  tables::compatible_parts, code_point);
}

std::span<const char32_t> lowered(char32_t code_point) noexcept {
  return parts_in(tables::lowered_block_of, tables::lowered_cells, tables::lowered_offsets,
                  tables::lowered_parts, code_point);
}

std::optional<char32_t> composition(char32_t first, char32_t second) noexcept {
  if (const auto syllable = hangul_composition(first, second)) return syllable;
  const std::uint64_t pair = std::uint64_t{first} << 32 | second;
  const auto& pairs = tables::composed_pairs;
  const auto found = std::lower_bound(pairs.begin(), pairs.end(), pair);
  if (found == pairs.end() || *found != pair) return std::nullopt;
  return tables::compositions[static_cast<std::size_t>(found - pairs.begin())];
}

}  // namespace weldlm
