// The Normalizer of sentencepiece: a charsmap, white space made one U+2581 each, and one in front
// of the text so that its first word looks like the others.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/charsmap.hpp"
#include "tokenizer/normalizer.hpp"
#include "tokenizer/prefix_trie.hpp"

namespace weldlm {

// The fields of NormalizerSpec and TrainerSpec that say what happens to white space.
struct SpaceOptions {
  bool add_dummy_prefix;
  bool remove_extra_whitespaces;
  bool escape_whitespaces;
  bool treat_whitespace_as_suffix;
};

class SpieceNormalizer : public Normalizer {
 public:
  // `charsmap` may be null. The rules leave the `kept` strings as they are.
  SpieceNormalizer(std::shared_ptr<const Charsmap> charsmap, SpaceOptions options,
                   const std::vector<std::string>& kept);

  // A text begins at each added token, too: `is_start` is not looked at. What a rule drops belongs
  // to the character before it.
  void normalize(const NormalizedText& source, bool is_start,
                 NormalizedText& result) const override;

 private:
  class Run;

  struct Chunk {
    std::size_t size;  // bytes of the source
    std::string_view bytes;
  };

  Chunk next_chunk(std::string_view text, std::size_t pos) const noexcept;
  std::size_t plain_end(std::string_view text, std::size_t pos) const noexcept;

  std::shared_ptr<const Charsmap> charsmap_;
  SpaceOptions options_;
  PrefixTrie kept_;
  std::string_view space_;          // what a space becomes
  std::array<bool, 256> is_plain_;  // ASCII that stays as it is in front of other ASCII
};

}  // namespace weldlm
