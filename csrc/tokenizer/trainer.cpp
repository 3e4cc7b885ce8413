#include "tokenizer/trainer.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <stdexcept>
#include <unordered_map>
#include <utility>

#include "tokenizer/pair_statistics.hpp"
#include "tokenizer/parallel.hpp"

namespace weldlm {
namespace {

constexpr std::size_t merges_per_progress = 64;

bool is_printable(std::size_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

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
  MergeLoop(const std::vector<WordCounts::Word>& words, const BpeTrainingOptions& options)
      : options_(options) {
    add_first_tokens();
    add_words(words);
    queue_touched_pairs();
  }

  TrainedBpe run(const std::function<void(std::size_t)>& progress) {
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
      if (merges_.size() % merges_per_progress == 0) progress(tokens_.size());
    }
    progress(tokens_.size());
    return {std::move(tokens_), last_of_each_pair()};
  }

 private:
  void add_first_tokens() {
    tokens_ = options_.special_tokens;
    const std::size_t num_special_tokens = tokens_.size();
    for (const unsigned char byte : byte_alphabet()) {
      byte_ids_[byte] = static_cast<std::uint32_t>(tokens_.size());
      tokens_.emplace_back(1, static_cast<char>(byte));
    }
    // a special token of printable ASCII is also the name of the merged token of these bytes
    for (std::size_t id = 0; id < tokens_.size(); ++id) {
      const bool is_merge_name =
          id >= num_special_tokens || std::all_of(tokens_[id].begin(), tokens_[id].end(),
                                                  [](char c) { return c >= 0x21 && c <= 0x7E; });
      if (is_merge_name) ids_.emplace(tokens_[id], static_cast<std::uint32_t>(id));
    }
  }

  void add_words(const std::vector<WordCounts::Word>& words) {
    if (words.size() >= std::numeric_limits<std::uint32_t>::max()) {
      throw std::invalid_argument("more than 2^32 - 2 different words; give less text");
    }
    begins_.push_back(0);
    for (const auto& [bytes, count] : words) {
      const auto word = static_cast<std::uint32_t>(counts_.size());
      for (const char byte : bytes) {
        symbols_.push_back(byte_ids_[static_cast<unsigned char>(byte)]);
      }
      for (std::size_t i = begins_.back(); i + 1 < symbols_.size(); ++i) {
        statistics_.change(pair_key(symbols_[i], symbols_[i + 1]), count, word);
      }
      begins_.push_back(symbols_.size());
      sizes_.push_back(bytes.size());
      counts_.push_back(count);
    }
  }

  void merge_pair(const Candidate& top) {
    const auto left = static_cast<std::uint32_t>(top.pair >> 32);
    const auto right = static_cast<std::uint32_t>(top.pair);
    const std::uint32_t result = id_of(tokens_[left] + tokens_[right]);
    merges_.push_back({left, right, result});
    for (const std::uint32_t word : top.words) merge_in_word(merges_.back(), word);
    queue_touched_pairs();
  }

  std::uint32_t id_of(std::string token) {
    const auto [found, is_new] =
        ids_.emplace(std::move(token), static_cast<std::uint32_t>(tokens_.size()));
    if (is_new) tokens_.push_back(found->first);
    return found->second;
  }

  // Joins the pair from left to right and counts what it does to the neighbors.
  void merge_in_word(const Merge& merge, std::uint32_t word) {
    std::uint32_t* symbols = symbols_.data() + begins_[word];
    const std::int64_t count = counts_[word];
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
    return static_cast<std::int64_t>(tokens_.size()) >= options_.vocab_size;
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

  const BpeTrainingOptions& options_;
  std::array<std::uint32_t, 256> byte_ids_{};
  std::vector<std::string> tokens_;
  std::unordered_map<std::string, std::uint32_t> ids_;
  std::vector<Merge> merges_;

  // word i is symbols_[begins_[i]] and the sizes_[i] - 1 symbols after it
  std::vector<std::uint32_t> symbols_;
  std::vector<std::size_t> begins_;
  std::vector<std::size_t> sizes_;
  std::vector<std::int64_t> counts_;

  PairStatistics statistics_;
  std::vector<Candidate> queue_;  // heap
};

void require_options(const BpeTrainingOptions& options) {
  const std::size_t num_special_tokens = options.special_tokens.size();
  const std::size_t least = 256 + num_special_tokens;
  if (options.vocab_size < static_cast<std::int64_t>(least)) {
    throw std::invalid_argument("vocab_size=" + std::to_string(options.vocab_size) +
                                ", expected at least " + std::to_string(least) +
                                ": 256 bytes and " + std::to_string(num_special_tokens) +
                                " special tokens are always there");
  }
  if (options.min_frequency < 1) {
    throw std::invalid_argument("min_frequency=" + std::to_string(options.min_frequency) +
                                ", expected at least 1");
  }
}

}  // namespace

void BpeTrainer::feed(std::span<const std::string_view> texts, std::size_t num_threads) {
  if (shards_.size() < num_threads) shards_.resize(num_threads);
  parallel_for(texts.size(), num_threads, [&](std::size_t worker, std::size_t index) {
    const std::string_view text = texts[index];
    std::vector<ByteRange> pieces;
    for (std::size_t start = 0; start < text.size();) {
      pieces.clear();
      start = pretokenizer_->split(text, start, pieces);
      for (const auto& [begin, end] : pieces) {
        shards_[worker].add(text.substr(begin, end - begin), 1);
      }
    }
  });
}

TrainedBpe BpeTrainer::train(const BpeTrainingOptions& options,
                             const std::function<void(std::size_t)>& progress) {
  require_options(options);
  join_shards();
  return MergeLoop(shards_.front().sorted(), options).run(progress);
}

void BpeTrainer::join_shards() {
  if (shards_.empty()) shards_.resize(1);
  for (std::size_t shard = 1; shard < shards_.size(); ++shard) {
    for (const auto& [bytes, count] : shards_[shard].sorted()) shards_[0].add(bytes, count);
  }
  shards_.resize(1);
}

std::vector<unsigned char> byte_alphabet() {
  std::vector<unsigned char> bytes;
  for (std::size_t byte = 0; byte < 256; ++byte) {
    if (is_printable(byte)) bytes.push_back(static_cast<unsigned char>(byte));
  }
  for (std::size_t byte = 0; byte < 256; ++byte) {
    if (!is_printable(byte)) bytes.push_back(static_cast<unsigned char>(byte));
  }
  return bytes;
}

}  // namespace weldlm
