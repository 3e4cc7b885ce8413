// The merges of BPE and WordPiece training, those of the BpeTrainer of tokenizers 0.23: the most
// frequent pair first, of equals the one with the lower ids.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tokenizer/merge_table.hpp"

namespace weldlm {

// Called with the number of tokens so far now and then; it may throw to stop.
using TrainingProgress = std::function<void(std::size_t)>;

// The tokens so far: each has an id, and those that a merge may lead to are found by name.
class TokenNames {
 public:
  std::size_t size() const noexcept { return tokens_.size(); }
  const std::string& token(std::uint32_t id) const noexcept { return tokens_[id]; }
  bool holds(const std::string& name) const { return ids_.contains(name); }

  // A new token that no merge leads to.
  void add_unnamed(std::string token) { tokens_.push_back(std::move(token)); }

  // The id of the token of this name, which is new where there is none.
  std::uint32_t id_of(const std::string& name);

  std::vector<std::string> take() { return std::move(tokens_); }

 private:
  std::vector<std::string> tokens_;
  std::unordered_map<std::string, std::uint32_t> ids_;
};

// Words as ids, end to end, and how often each occurred.
struct SymbolWords {
  std::vector<std::uint32_t> symbols;
  std::vector<std::size_t> begins{0};  // of each word, and the end of the last
  std::vector<std::int64_t> counts;

  // Ends the word of the symbols that were appended since the last.
  void end_word(std::int64_t count);
};

struct MergeLoopOptions {
  std::int64_t vocab_size;
  std::int64_t min_frequency;
  std::string_view continuing_prefix;  // a merge drops it from its right token
};

// Merges pairs in the words, adding the tokens, until there are vocab_size tokens or no pair
// occurs min_frequency times.
std::vector<Merge> learn_merges(TokenNames& names, SymbolWords words,
                                const MergeLoopOptions& options, const TrainingProgress& progress);

}  // namespace weldlm
