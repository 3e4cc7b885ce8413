#include "tokenizer/merge_loop.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <utility>

#include "tokenizer/pair_statistics.hpp"

namespace weldlm {
namespace {

constexpr std::size_t merges_per_progress = 64;

// A queued pair with the words to look through. A pair may be queued more than once, and its
// count may have changed since: the count is compared when it comes to the top.
struct Candidate {
  std::int64_t count;
  std::uint64_t pair;
  std::vector<std::uint32_t> words;

  bool operator<(const Candidate& other) const noexcept {
    return count != other.count ? count < other.count : pair > other.pair;
  }
};

class MergeLoop {
 public:
  MergeLoop(TokenNames& names, SymbolWords words, const MergeLoopOptions& options)
      : options_(options), names_(names), words_(std::move(words)) {
    count_pairs();
    queue_touched_pairs();
  }

  std::vector<Merge> run(const TrainingProgress& progress) {
    while (!is_complete() && !queue_.empty()) {
      Candidate top = pop();
      const std::int64_t count = statistics_.count(top.pair);
      if (top.count != count) {
        top.count = count;
        push(std::move(top));
        continue;
      }
      if (top.count < std::max<std::int64_t>(options_.min_frequency, 1)) break;
      merge_pair(top);
      if (merges_.size() % merges_per_progress == 0) progress(names_.size());
    }
    progress(names_.size());
    return last_of_each_pair();
  }

 private:
  void count_pairs() {
    if (words_.counts.size() >= std::numeric_limits<std::uint32_t>::max()) {
      throw std::invalid_argument("more than 2^32 - 2 different words; give less text");
    }
    for (std::size_t word = 0; word < words_.counts.size(); ++word) {
      const std::size_t end = words_.begins[word + 1];
      for (std::size_t i = words_.begins[word]; i + 1 < end; ++i) {
        statistics_.change(pair_key(words_.symbols[i], words_.symbols[i + 1]), words_.counts[word],
                           static_cast<std::uint32_t>(word));
      }
      sizes_.push_back(end - words_.begins[word]);
    }
  }

  void merge_pair(const Candidate& top) {
    const auto left = static_cast<std::uint32_t>(top.pair >> 32);
    const auto right = static_cast<std::uint32_t>(top.pair);
    std::string_view rest = names_.token(right);
    if (rest.starts_with(options_.continuing_prefix)) {
      rest.remove_prefix(options_.continuing_prefix.size());
    }
    merges_.push_back({left, right, names_.id_of(names_.token(left) + std::string(rest))});
    for (const std::uint32_t word : top.words) merge_in_word(merges_.back(), word);
    queue_touched_pairs();
  }

  // Joins the pair from left to right and counts what it does to the neighbors.
  void merge_in_word(const Merge& merge, std::uint32_t word) {
    std::uint32_t* symbols = words_.symbols.data() + words_.begins[word];
    const std::int64_t count = words_.counts[word];
    const std::size_t size = sizes_[word];
    std::size_t kept = 0;
    for (std::size_t i = 0; i < size; ++kept) {
      if (i + 1 == size || symbols[i] != merge.left || symbols[i + 1] != merge.right) {
        symbols[kept] = symbols[i++];
        continue;
      }
      if (kept > 0) {
        statistics_.change(pair_key(symbols[kept - 1], merge.left), -count, word);
        statistics_.change(pair_key(symbols[kept - 1], merge.result), count, word);
      }
      if (i + 2 < size) {
        statistics_.change(pair_key(merge.right, symbols[i + 2]), -count, word);
        statistics_.change(pair_key(merge.result, symbols[i + 2]), count, word);
      }
      symbols[kept] = merge.result;
      i += 2;
    }
    sizes_[word] = kept;
  }

  void queue_touched_pairs() {
    statistics_.drain(
        [this](std::uint64_t pair, std::int64_t count, std::vector<std::uint32_t> words) {
          if (count > 0) push({count, pair, std::move(words)});
        });
  }

  void push(Candidate candidate) {
    queue_.push_back(std::move(candidate));
    std::push_heap(queue_.begin(), queue_.end());
  }

  Candidate pop() {
    std::pop_heap(queue_.begin(), queue_.end());
    Candidate top = std::move(queue_.back());
    queue_.pop_back();
    return top;
  }

  bool is_complete() const noexcept {
    return static_cast<std::int64_t>(names_.size()) >= options_.vocab_size;
  }

  // A pair queued twice merges twice; the rank of the later merge is the one that holds.
  std::vector<Merge> last_of_each_pair() const {
    std::unordered_map<std::uint64_t, std::size_t> last;
    for (std::size_t rank = 0; rank < merges_.size(); ++rank) {
      last[pair_key(merges_[rank].left, merges_[rank].right)] = rank;
    }
    std::vector<Merge> merges;
    for (std::size_t rank = 0; rank < merges_.size(); ++rank) {
      const Merge& merge = merges_[rank];
      if (last[pair_key(merge.left, merge.right)] == rank) merges.push_back(merge);
    }
    return merges;
  }

  const MergeLoopOptions& options_;
  TokenNames& names_;
  std::vector<Merge> merges_;

  SymbolWords words_;
  std::vector<std::size_t> sizes_;  // how many symbols each word still has, from its begin on

  PairStatistics statistics_;
  std::vector<Candidate> queue_;  // heap
};

}  // namespace

std::uint32_t TokenNames::id_of(const std::string& name) {
  const auto [found, is_new] = ids_.emplace(name, static_cast<std::uint32_t>(tokens_.size()));
  if (is_new) tokens_.push_back(name);
  return found->second;
}

void SymbolWords::end_word(std::int64_t count) {
  begins.push_back(symbols.size());
  counts.push_back(count);
}

std::vector<Merge> learn_merges(TokenNames& names, SymbolWords words,
                                const MergeLoopOptions& options, const TrainingProgress& progress) {
  return MergeLoop(names, std::move(words), options).run(progress);
}

}  // namespace weldlm
