// Normalizers rewrite text before it is split into pieces, and remember, where asked to, which
// bytes of the original each byte of the result stands for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace weldlm {

// A range of bytes.
struct ByteRange {
  std::size_t begin;
  std::size_t end;

  bool operator==(const ByteRange&) const = default;
};

// What is remembered of where a byte comes from: nothing; all of what it stands for; or what the
// offsets of the tokenizers library show of that.
enum class Origins { none, whole, offsets };

class NormalizedText {
 public:
  NormalizedText() = default;
  // The text itself, each byte standing for its own character if origins are remembered.
  NormalizedText(std::string_view text, Origins origins);

  std::string_view text() const noexcept { return text_; }
  bool has_origins() const noexcept { return kind_ != Origins::none; }
  Origins origins() const noexcept { return kind_; }

  // Whether the text begins with what the original begins with.
  bool begins_original() const noexcept { return begins_original_; }

  // The bytes of the original that [begin, end) stands for.
  ByteRange origin(std::size_t begin, std::size_t end) const noexcept;

  // Makes this the empty text that is built from `source`; keeps its memory.
  void restart(const NormalizedText& source);

  // Appends [begin, end) of `source` as it is.
  void copy(const NormalizedText& source, std::size_t begin, std::size_t end);

  // Appends `bytes` that stand for [begin, end) of `source`; where that is empty, for nothing.
  void replace(const NormalizedText& source, std::size_t begin, std::size_t end,
               std::string_view bytes);

  // The same where all that is remembered is `shown`, a range of `source`.
  void replace_showing(const NormalizedText& source, std::size_t begin, ByteRange shown,
                       std::string_view bytes);

  // The same where offsets show the last character of [begin, end) only, which is not empty.
  void replace_at_end(const NormalizedText& source, std::size_t begin, std::size_t end,
                      std::string_view bytes);

  // Appends `bytes` that stand one by one for those of `source` from `begin` on.
  void substitute(const NormalizedText& source, std::size_t begin, std::string_view bytes);

  // Keeps the first `size` bytes.
  void truncate(std::size_t size);

 private:
  std::string text_;
  std::vector<ByteRange> origins_;  // of each byte, where any are remembered
  Origins kind_ = Origins::none;
  bool begins_original_ = true;
};

class Normalizer {
 public:
  virtual ~Normalizer() = default;

  // Writes the normalized `source` to `result`, which is another object. `is_start` says that
  // `source` begins where the user's text begins, not behind an added token.
  virtual void normalize(const NormalizedText& source, bool is_start,
                         NormalizedText& result) const = 0;
};

// The text normalized from its start; as it is where there is no normalizer.
std::string normalized_text(const Normalizer* normalizer, std::string_view text);

// Several normalizers, one after the other; none leaves the text as it is.
class NormalizerSequence : public Normalizer {
 public:
  explicit NormalizerSequence(std::vector<std::shared_ptr<const Normalizer>> steps)
      : steps_(std::move(steps)) {}

  void normalize(const NormalizedText& source, bool is_start,
                 NormalizedText& result) const override;

 private:
  std::vector<std::shared_ptr<const Normalizer>> steps_;
};

}  // namespace weldlm
