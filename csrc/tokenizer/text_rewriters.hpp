// What the tokenizers library does to the text of SentencePiece vocabularies.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/charsmap.hpp"
#include "tokenizer/normalizer.hpp"
#include "tokenizer/pretokenizer.hpp"

namespace weldlm {

// Precompiled: the rules of a charsmap on grapheme clusters of fewer than six bytes, of which the
// shortest rule replaces the whole, and on the characters of the others.
class Precompiled : public Normalizer {
 public:
  explicit Precompiled(std::shared_ptr<const Charsmap> charsmap) : charsmap_(std::move(charsmap)) {}

  void normalize(const NormalizedText& source, bool is_start,
                 NormalizedText& result) const override;

 private:
  template <typename Output>
  void rewrite(std::string_view text, Output output) const;

  std::shared_ptr<const Charsmap> charsmap_;
};

// Prepend: puts a string in front of every text that is not empty.
class Prepend : public Normalizer {
 public:
  explicit Prepend(std::string content) : content_(std::move(content)) {}

  void normalize(const NormalizedText& source, bool is_start,
                 NormalizedText& result) const override;

 private:
  std::string content_;
};

// Replace: one string by another, in runs of at least `least` of it, by one for the run.
class Replace : public Normalizer {
 public:
  // least = 0: every occurrence by one. Throws std::invalid_argument on an empty pattern.
  Replace(std::string pattern, std::size_t least, std::string content);

  void normalize(const NormalizedText& source, bool is_start,
                 NormalizedText& result) const override;

 private:
  std::string pattern_;
  std::size_t least_;
  std::string content_;
};

// Strip: removes white space at the ends.
class Strip : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}

  void normalize(const NormalizedText& source, bool is_start,
                 NormalizedText& result) const override;

 private:
  bool left_;
  bool right_;
};

// Removes all occurrences of a string at one end or both.
class StripRuns : public Normalizer {
 public:
  // Throws std::invalid_argument on an empty pattern.
  StripRuns(std::string pattern, bool left, bool right);

  void normalize(const NormalizedText& source, bool is_start,
                 NormalizedText& result) const override;

 private:
  std::string pattern_;
  bool left_;
  bool right_;
};

// Nmt: drops control characters, and makes a space of what counts as one.
class Nmt : public Normalizer {
 public:
  void normalize(const NormalizedText& source, bool is_start,
                 NormalizedText& result) const override;
};

enum class PrependScheme { always, first, never };

// Metaspace: spaces become `replacement`, of which one is put in front.
class Metaspace : public Normalizer {
 public:
  Metaspace(std::string replacement, PrependScheme scheme)
      : replacement_(std::move(replacement)), scheme_(scheme) {}

  void normalize(const NormalizedText& source, bool is_start,
                 NormalizedText& result) const override;

 private:
  std::string replacement_;
  PrependScheme scheme_;
};

// WhitespaceSplit and then Metaspace: every word with `replacement` in front, and nothing between.
class MetaspaceWords : public Normalizer {
 public:
  explicit MetaspaceWords(std::string replacement) : replacement_(std::move(replacement)) {}

  void normalize(const NormalizedText& source, bool is_start,
                 NormalizedText& result) const override;

 private:
  std::string replacement_;
};

// Pieces that begin at each `delimiter`.
class DelimiterCutter : public Pretokenizer {
 public:
  // Throws std::invalid_argument on an empty delimiter.
  explicit DelimiterCutter(std::string delimiter);

  std::size_t split(std::string_view text, std::size_t start,
                    std::vector<ByteRange>& pieces) const override;

 private:
  std::string delimiter_;
};

// WhitespaceSplit: pieces between white space.
class WhitespaceSplit : public Pretokenizer {
 public:
  std::size_t split(std::string_view text, std::size_t start,
                    std::vector<ByteRange>& pieces) const override;
};

}  // namespace weldlm
