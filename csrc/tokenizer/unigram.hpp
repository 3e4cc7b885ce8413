// Unigram: the segmentation of a text into pieces whose scores have the largest sum (Viterbi).
// Sums, ties and unknown characters as in EncodeOptimized of sentencepiece (Score = float) or of
// the tokenizers library (Score = double).
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
#include "tokenizer/piece_trie.hpp"

namespace weldlm {

struct UnigramVocabulary {
  std::vector<std::string> tokens;  // of each id
  std::vector<double> scores;       // of each id
  std::vector<std::uint32_t> matched_ids;  // tokens that text is searched for
  std::uint32_t unknown_id;
  double unknown_score;                 // of each character that is no token
  std::vector<std::uint32_t> byte_ids;  // none, or the token of each byte of unknown characters
};

template <typename Score>
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
  void for_each_edge(std::string_view part, const Visit& visit) const;
  void encode_part(std::string_view part, State& state, TokenSink& sink) const;
  bool encode_cached(std::string_view part, State& state, TokenSink& sink) const;
  void search(std::string_view part, State& state) const;
  double search_exactly(std::string_view part, State& state) const;
  double largest_base(std::string_view part, double margin) const noexcept;
  void add_known(std::uint32_t id, State& state, TokenSink& sink) const;
  void add_unknown(State& state, TokenSink& sink) const;

  UnigramVocabulary vocabulary_;
  PieceTrie trie_;
  std::vector<std::uint32_t> sizes_;  // of each token, in bytes
  MetaspaceCuts cuts_;
  double largest_score_;  // of all, by absolute value
};

extern template class Unigram<float>;
extern template class Unigram<double>;

}  // namespace weldlm
