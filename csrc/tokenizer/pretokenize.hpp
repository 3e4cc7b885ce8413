// Splitting text into pieces, one hand-written scanner per pattern family. Merges never cross a
// piece. A scanner is exact for valid UTF-8 and reads no byte outside the text for any input.
#pragma once

#include <cstddef>
#include <string_view>

namespace weldlm {

// GPT-2: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// Returns the end of the piece that begins at `start` < text.size(); always > start.
std::size_t gpt2_piece_end(std::string_view text, std::size_t start) noexcept;

}  // namespace weldlm
