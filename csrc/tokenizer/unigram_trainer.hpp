// Unigram training: pieces and scores as the trainer of sentencepiece 0.2.0 finds them, but for the
// rounding of sums, which are wider here. Version 0.2.3 leaves out the last steps of EM.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string_view>
#include <vector>

#include "tokenizer/merge_loop.hpp"
#include "tokenizer/normalizer.hpp"
#include "tokenizer/unigram_seeds.hpp"
#include "tokenizer/word_counts.hpp"

namespace weldlm {

struct UnigramTrainingOptions {
  std::int64_t vocab_size;
  std::int64_t num_special_tokens;  // of vocab_size; they are no pieces
  double character_coverage;     // the share of the text that the characters with a piece make up
  std::size_t max_piece_length;  // characters
  std::size_t num_seeds;
  std::int64_t num_sub_iterations;  // steps of EM between two removals of pieces
  double shrinking_factor;          // the share of the pieces that a removal keeps
};

class UnigramTrainer {
 public:
  // The normalizer makes each space U+2581; null leaves texts as they are.
  explicit UnigramTrainer(std::shared_ptr<const Normalizer> normalizer)
      : normalizer_(std::move(normalizer)) {}

  // Counts the words of the texts, which begin at each U+2581.
  void feed(std::span<const std::string_view> texts, std::size_t num_threads);

  // The pieces, the most probable first, and their log probabilities. With the special tokens there
  // are more than vocab_size where the characters alone are more, fewer where the texts support no
  // more. The result does not depend on num_threads. `progress` is called with the number of pieces
  // that are left.
  std::vector<ScoredPiece> train(const UnigramTrainingOptions& options, std::size_t num_threads,
                                 const TrainingProgress& progress);

 private:
  void count_words(std::string_view text, WordCounts& counts) const;

  std::shared_ptr<const Normalizer> normalizer_;
  // words, with U+2581 behind them where another one follows
  ShardedWordCounts words_;
};

}  // namespace weldlm
