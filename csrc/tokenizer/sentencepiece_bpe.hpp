// BPE over characters, as in SentencePiece models and Llama-style tokenizer.json files. Characters
// that are no token become their bytes or the unknown token.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/character_merges.hpp"
#include "tokenizer/character_table.hpp"
#include "tokenizer/metaspace_cuts.hpp"
#include "tokenizer/model.hpp"
#include "tokenizer/pair_ranks.hpp"
#include "tokenizer/prefix_trie.hpp"
#include "tokenizer/pretokenizer.hpp"

namespace weldlm {

struct CharacterBpeVocabulary {
  std::vector<std::string> tokens;         // of each id
  std::vector<std::uint32_t> merged_ids;   // tokens that characters and merges can become
  std::vector<std::uint32_t> unsplit_ids;  // tokens taken from the text before any merge
  std::uint32_t unknown_id;
  bool fuse_unknown;                    // unknown characters in a row are one token
  std::vector<std::uint32_t> byte_ids;  // none, or the token of each byte of unknown characters
};

class SentencePieceBpe : public Model {
 public:
  // Throws std::invalid_argument on ids out of range.
  SentencePieceBpe(CharacterBpeVocabulary vocabulary, const CharacterMerges& merges);

  std::unique_ptr<Workspace> make_workspace() const override;

  // Time is O(n log n) in the bytes of the piece.
  void encode(std::string_view piece, Workspace* workspace, TokenSink& sink) const override;

 private:
  struct State;

  void split(std::string_view piece, State& state) const;
  void merge_few(State& state) const;
  void merge_many(State& state) const;
  void push_pair(std::uint32_t left, State& state) const;
  void add_symbols(std::string_view piece, State& state, TokenSink& sink) const;
  void add_unknown(std::string_view text, bool is_behind_unknown, TokenSink& sink) const;

  CharacterBpeVocabulary vocabulary_;
  std::uint32_t first_unsplit_;  // symbols from here on are tokens that do not merge
  CharacterTable characters_;
  PrefixTrie unsplit_;
  PairRanks pairs_;
  std::size_t num_ranks_ = 0;
};

// Pieces that begin where U+2581 allows a cut.
class MetaspaceCutter : public Pretokenizer {
 public:
  explicit MetaspaceCutter(MetaspaceCuts cuts) : cuts_(cuts) {}

  std::size_t split(std::string_view text, std::size_t start,
                    std::vector<ByteRange>& pieces) const override;

 private:
  MetaspaceCuts cuts_;
};

}  // namespace weldlm
