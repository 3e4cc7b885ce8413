// Splitting text with a regular expression, one hand-written scanner per pattern family. A scanner
// is exact for valid UTF-8 and reads no byte outside the text for any input.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "tokenizer/pretokenizer.hpp"

namespace weldlm {

// Returns the end of the piece that begins at `start` < text.size(); always > start.
using PieceEnd = std::size_t (*)(std::string_view text, std::size_t start) noexcept;

// GPT-2: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
std::size_t gpt2_piece_end(std::string_view text, std::size_t start) noexcept;

// Pieces end to end, as a scanner finds them.
class PatternPretokenizer : public Pretokenizer {
 public:
  explicit PatternPretokenizer(PieceEnd piece_end) : piece_end_(piece_end) {}

  std::size_t split(std::string_view text, std::size_t start,
                    std::vector<ByteRange>& pieces) const override;

 private:
  PieceEnd piece_end_;
};

// The scanner of a family by its name; throws std::invalid_argument that lists the known ones.
PieceEnd find_pattern(std::string_view name);

}  // namespace weldlm
