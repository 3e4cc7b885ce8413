// Text as BERT prepares it, exact with tokenizers 0.23: cleaning, spaces around Chinese characters,
// accents and case; then pieces between white space and around punctuation.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/normalizer.hpp"
#include "tokenizer/pretokenizer.hpp"

namespace weldlm {

struct BertNormalizerOptions {
  bool clean_text;            // drops control characters, makes white space a space
  bool handle_chinese_chars;  // puts a space on both sides
  bool strip_accents;         // decomposes and drops Mn
  bool lowercase;
};

class BertNormalizer : public Normalizer {
 public:
  explicit BertNormalizer(const BertNormalizerOptions& options);

  void normalize(const NormalizedText& source, bool is_start,
                 NormalizedText& result) const override;

 private:
  struct Scratch;

  std::size_t append_ascii(const NormalizedText& source, std::size_t pos,
                           NormalizedText& result) const;
  std::size_t append_unchanged(const NormalizedText& source, std::size_t pos,
                               NormalizedText& result) const;
  std::size_t append_changed(const NormalizedText& source, std::size_t pos, Scratch& scratch,
                             NormalizedText& result) const;
  std::size_t append_reordered(const NormalizedText& source, std::size_t pos, Scratch& scratch,
                               NormalizedText& result) const;
  bool is_moved(char32_t value) const noexcept;
  std::size_t starter_before(std::string_view text, std::size_t pos) const noexcept;
  void append_stripped(char32_t value, std::vector<char32_t>& chars) const;
  void append_lowered(char32_t value, std::string& bytes) const;

  BertNormalizerOptions options_;
  std::uint32_t changing_flags_;
  std::array<char, 128> ascii_;  // what becomes of each byte; of 0 it is nothing
};

// White space separates pieces and is dropped; each punctuation mark is a piece.
class BertPretokenizer : public Pretokenizer {
 public:
  std::size_t split(std::string_view text, std::size_t start,
                    std::vector<ByteRange>& pieces) const override;
};

}  // namespace weldlm
