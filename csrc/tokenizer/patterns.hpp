// Splitting text with a regular expression, one hand-written scanner per pattern family. A scanner
// is exact for valid UTF-8 and reads no byte outside the text for any input.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "tokenizer/pretokenizer.hpp"

namespace weldlm {

// Returns the end of the piece that begins at `start` < text.size(); always > start. The text ends
// where the segment does.
using PieceEnd = std::size_t (*)(std::string_view text, std::size_t start) noexcept;

// GPT-2, r50k, p50k:
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// tiktoken 0.14 spells it with the same meaning:
//   '(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s
std::size_t gpt2_piece_end(std::string_view text, std::size_t start) noexcept;

// SmolLM: each \p{N} alone, and between them GPT-2 as if the text ended there.
std::size_t smollm_piece_end(std::string_view text, std::size_t start) noexcept;

// \p{N}|\P{N}+ and \p{N}+|\P{N}+
std::size_t single_digits_piece_end(std::string_view text, std::size_t start) noexcept;
std::size_t digits_piece_end(std::string_view text, std::size_t start) noexcept;

// cl100k as in tiktoken 0.14, where white space that ends the text is one piece:
//   '(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|
//   \s++$|\s*[\r\n]|\s+(?!\S)|\s
std::size_t cl100k_piece_end(std::string_view text, std::size_t start) noexcept;

// Llama-3, which is cl100k as first published:
//   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|
//   \s*[\r\n]+|\s+(?!\S)|\s+
std::size_t llama3_piece_end(std::string_view text, std::size_t start) noexcept;

// Qwen, Qwen2, Qwen2.5, Qwen3: Llama-3 with \p{N} for \p{N}{1,3}.
std::size_t qwen2_piece_end(std::string_view text, std::size_t start) noexcept;

// Qwen3.5: Qwen2 with marks in words,
//   [^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+ and  ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*
std::size_t qwen3_5_piece_end(std::string_view text, std::size_t start) noexcept;

// o200k, Llama-4, with C = (?i:'s|'t|'re|'ve|'m|'ll|'d)?
//   [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+C|
//   [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*C|
//   \p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
std::size_t o200k_piece_end(std::string_view text, std::size_t start) noexcept;

// Tekken: o200k without C and with \p{N} for \p{N}{1,3}.
std::size_t tekken_piece_end(std::string_view text, std::size_t start) noexcept;

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
