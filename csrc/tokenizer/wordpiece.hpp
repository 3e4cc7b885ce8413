// WordPiece: the longest token that the word begins with, then the longest continuing token of
// what is left, and so on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "tokenizer/model.hpp"
#include "tokenizer/prefix_trie.hpp"
#include "tokenizer/vocabulary.hpp"

namespace weldlm {

struct WordPieceOptions {
  std::size_t num_tokens;          // words are spelled in the ids below
  std::uint32_t unk_id;            // of a word that no tokens spell
  std::string continuing_prefix;   // of the tokens that begin inside a word
  std::size_t max_chars_per_word;  // a longer word is unknown
};

class WordPiece : public Model {
 public:
  // Throws std::invalid_argument unless unk_id < num_tokens <= vocabulary.size().
  WordPiece(const Vocabulary& vocabulary, const WordPieceOptions& options);

  // A word that cannot be spelled is one unk_id that covers all of it. Time is bounded by the
  // longest token times the bytes of max_chars_per_word characters.
  void encode(std::string_view piece, Workspace* workspace, TokenSink& sink) const override;

 private:
  bool is_too_long(std::string_view piece) const noexcept;

  PrefixTrie trie_;
  std::uint32_t continuing_node_;  // behind the prefix, or nothing
  std::uint32_t unk_id_;
  std::size_t max_chars_per_word_;
};

}  // namespace weldlm
