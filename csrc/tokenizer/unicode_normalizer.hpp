// The four normalization forms of Unicode, lower case and the removal of accents, as
// tokenizers 0.23 does them, origins included.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tokenizer/normalizer.hpp"

namespace weldlm {

enum class NormalizationForm { nfc, nfd, nfkc, nfkd };

// The form of this name, such as "NFC"; throws std::invalid_argument on any other.
NormalizationForm find_form(std::string_view name);

class UnicodeNormalizer : public Normalizer {
 public:
  explicit UnicodeNormalizer(NormalizationForm form);

  // Text that is normalized already is copied in long spans.
  void normalize(const NormalizedText& source, bool is_start,
                 NormalizedText& result) const override;

 private:
  struct Run;

  std::size_t run_end(std::string_view text, std::size_t start) const noexcept;
  void normalize_run(const NormalizedText& source, ByteRange range, Run& run,
                     NormalizedText& result) const;

  std::uint32_t changes_;  // the flag of a code point that the form changes
  std::uint32_t joins_;
  bool is_compatible_;
  bool is_composed_;
};

// Each code point in lower case, whatever stands around it.
class Lowercase : public Normalizer {
 public:
  void normalize(const NormalizedText& source, bool is_start,
                 NormalizedText& result) const override;
};

// Drops combining marks; letters that are not decomposed keep theirs.
class StripAccents : public Normalizer {
 public:
  void normalize(const NormalizedText& source, bool is_start,
                 NormalizedText& result) const override;
};

}  // namespace weldlm
