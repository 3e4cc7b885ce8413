// From ids to bytes of text: what each token adds, and what it adds where the text begins.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/flat_array.hpp"
#include "tokenizer/vocabulary.hpp"

namespace weldlm {

class Decoder {
 public:
  // texts[id] is what a token adds, first_texts[id] what it adds as the first one; where that is
  // empty, the two are the same. Tokens of `silent_ids` add nothing, and the one behind them is
  // still the first; with `first_until_text`, so is the one behind any that added nothing.
  Decoder(const std::vector<std::string>& texts, const std::vector<std::string>& first_texts,
          std::span<const std::uint32_t> silent_ids, bool first_until_text = false);
  explicit Decoder(ImageReader& image);

  void write(ImageWriter& image) const;

  std::size_t size() const noexcept { return texts_.size(); }

  // All throw std::invalid_argument on an id out of range.
  std::string_view text(std::int64_t id, bool is_first) const;
  std::string decode(std::span<const std::int64_t> ids) const;

  // Whether the token adds nothing as the first one, and the next is still the first.
  bool is_silent(std::int64_t id) const {
    const bool is_empty = text(id, true).empty();  // throws on an id out of range
    return is_always_silent(id) || (flags_.first_until_text != 0 && is_empty);
  }

 private:
  struct Flags {
    std::uint8_t has_first_texts;
    std::uint8_t first_until_text;
  };

  bool is_always_silent(std::int64_t id) const {
    return is_silent_[static_cast<std::size_t>(id)] != 0;
  }

  TokenBytes texts_;
  TokenBytes first_texts_;
  Flags flags_;
  FlatArray<std::uint8_t> is_silent_;
};

}  // namespace weldlm
