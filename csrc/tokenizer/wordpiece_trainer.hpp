// WordPiece training: merges of characters, as the WordPieceTrainer of tokenizers 0.23 learns them.
//
// The library gives the characters inside words their ids in the order of a hash map, another one
// in each run, and ids decide between pairs that are equally frequent. Here they come in the order
// of their code points; so the vocabulary is that of the library in a run with this order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/merge_loop.hpp"
#include "tokenizer/normalizer.hpp"
#include "tokenizer/pretokenizer.hpp"
#include "tokenizer/word_counts.hpp"

namespace weldlm {

struct WordPieceTrainingOptions {
  std::int64_t vocab_size;
  std::vector<std::string> special_tokens;
  std::int64_t min_frequency;
  // The most frequent characters are kept, of equals those of lower code points; the others are
  // left out of their words.
  std::optional<std::size_t> limit_alphabet;
  std::u32string initial_alphabet;  // counts as more frequent than all others
  std::string continuing_prefix;
};

class WordPieceTrainer {
 public:
  // Either may be null: text is counted as it is, or as one word.
  WordPieceTrainer(std::shared_ptr<const Normalizer> normalizer,
                   std::shared_ptr<const Pretokenizer> pretokenizer)
      : normalizer_(std::move(normalizer)), pretokenizer_(std::move(pretokenizer)) {}

  // Counts the words of the texts. The result does not depend on num_threads.
  void feed(std::span<const std::string_view> texts, std::size_t num_threads);

  // The tokens by id: special tokens, the alphabet, characters inside words, merged tokens. There
  // are more than vocab_size where the alphabet alone is larger, fewer where the texts support no
  // more.
  std::vector<std::string> train(const WordPieceTrainingOptions& options,
                                 const TrainingProgress& progress);

 private:
  void count_words(std::string_view text, WordCounts& counts) const;

  std::shared_ptr<const Normalizer> normalizer_;
  std::shared_ptr<const Pretokenizer> pretokenizer_;
  ShardedWordCounts words_;
};

}  // namespace weldlm
