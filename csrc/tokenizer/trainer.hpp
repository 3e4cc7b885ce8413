// Byte-level BPE training. Merges and ids are those of the BpeTrainer of tokenizers 0.23 with the
// ByteLevel alphabet.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/merge_loop.hpp"
#include "tokenizer/pretokenizer.hpp"
#include "tokenizer/word_counts.hpp"

namespace weldlm {

struct TrainedBpe {
  std::vector<std::string> tokens;  // special tokens, the 256 bytes, merged tokens
  std::vector<Merge> merges;
};

struct BpeTrainingOptions {
  std::int64_t vocab_size;
  std::vector<std::string> special_tokens;
  std::int64_t min_frequency;
};

class BpeTrainer {
 public:
  // The pieces of the pretokenizer are the words.
  explicit BpeTrainer(std::shared_ptr<const Pretokenizer> pretokenizer)
      : pretokenizer_(std::move(pretokenizer)) {}

  // Counts the words of the texts. The result does not depend on num_threads.
  void feed(std::span<const std::string_view> texts, std::size_t num_threads);

  // Stops before vocab_size tokens where the texts support no more.
  TrainedBpe train(const BpeTrainingOptions& options, const TrainingProgress& progress);

 private:
  std::shared_ptr<const Pretokenizer> pretokenizer_;
  ShardedWordCounts words_;
};

// The byte of each id from num_special_tokens on: bytes in the order of their printable characters.
std::vector<unsigned char> byte_alphabet();

}  // namespace weldlm
