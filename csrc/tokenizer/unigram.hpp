// Unigram: the segmentation of a text into pieces whose scores have the largest sum (Viterbi).
// Of two equal sums the one counts whose last token begins earlier.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/metaspace_cuts.hpp"
#include "tokenizer/model.hpp"
#include "tokenizer/prefix_trie.hpp"

namespace weldlm {

// How sums are rounded and unknown characters looked up: as in sentencepiece 0.2.3, or as in the
// tokenizers library 0.23.
enum class UnigramRules : std::uint8_t {
  sentencepiece,  // float; a sum beyond 100000 becomes the zero that the next ones start from
  tokenizers,     // double; unknown characters in a row are looked up once more together
};

struct UnigramVocabulary {
  std::vector<std::string> tokens;         // of each id
  std::vector<double> scores;              // of each id
  std::vector<std::uint32_t> matched_ids;  // tokens that text is searched for
  std::uint32_t unknown_id;
  double unknown_score;                 // of each character that is no token
  std::vector<std::uint32_t> byte_ids;  // none, or the token of each byte of unknown characters
  UnigramRules rules;
};

class Unigram : public Model {
 public:
  // Throws std::invalid_argument on ids out of range, on scores that are not finite, on an empty
  // token among the matched ones.
  explicit Unigram(UnigramVocabulary vocabulary);

  std::unique_ptr<Workspace> make_workspace() const override;

  // Time is the size of the piece times that of the longest token.
  void encode(std::string_view piece, Workspace* workspace, TokenSink& sink) const override;

 private:
  struct State;

  template <typename Visit>
  void for_each_edge(std::string_view part, std::size_t start, const Visit& visit) const;
  void encode_part(std::string_view part, State& state, TokenSink& sink) const;
  bool encode_cached(std::string_view part, State& state, TokenSink& sink) const;
  template <typename Sum>
  void search(std::string_view part, State& state) const;
  double search_exactly(std::string_view part, State& state) const;
  double largest_base(std::string_view part, double margin) const noexcept;
  void add_known(std::uint32_t id, State& state, TokenSink& sink) const;
  void add_unknown(State& state, TokenSink& sink) const;

  UnigramVocabulary vocabulary_;
  PrefixTrie trie_;
  std::vector<std::uint32_t> sizes_;  // of each token, in bytes
  MetaspaceCuts cuts_;
  double largest_score_;  // of all, by absolute value
};
}  // namespace weldlm
