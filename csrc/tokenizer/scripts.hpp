// The script of a character, as far as Unigram training asks for it: no piece mixes two scripts.
#pragma once

#include <algorithm>
#include <cstdint>

#include "tokenizer/generated_scripts.hpp"

namespace weldlm {

inline constexpr std::uint32_t inherited_script = 1;  // that of the character before

// The number of the script; the kana count as Han. `code_point` is below 0x110000.
inline std::uint32_t script_of(char32_t code_point) noexcept {
  const auto& changes = script_tables::changes;
  const auto above = std::upper_bound(changes.begin(), changes.end(),
                                      static_cast<std::uint32_t>(code_point) << 8 | 0xFF);
  return above == changes.begin() ? 0 : above[-1] & 0xFF;
}

}  // namespace weldlm
