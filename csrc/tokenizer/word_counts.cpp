#include "tokenizer/word_counts.hpp"

#include <algorithm>
#include <functional>

#include "tokenizer/parallel.hpp"

namespace weldlm {

void WordCounts::add(std::string_view word, std::int64_t count) {
  const std::size_t hash = std::hash<std::string_view>{}(word);
  const std::size_t mask = slots_.size() - 1;
  std::size_t slot = hash & mask;
  for (; slots_[slot] != 0; slot = (slot + 1) & mask) {
    Entry& entry = entries_[slots_[slot] - 1];
    if (entry.hash == hash && bytes(entry) == word) {
      entry.count += count;
      return;
    }
  }
  entries_.push_back({hash, arena_.size(), word.size(), count});
  arena_ += word;
  slots_[slot] = entries_.size();
  if (entries_.size() * 2 > slots_.size()) grow();
}

std::vector<WordCounts::Word> WordCounts::sorted() const {
  std::vector<Word> words;
  words.reserve(entries_.size());
  for (const Entry& entry : entries_) words.push_back({bytes(entry), entry.count});
  std::sort(words.begin(), words.end(),
            [](const Word& a, const Word& b) { return a.bytes < b.bytes; });
  return words;
}

void WordCounts::grow() {
  slots_.assign(slots_.size() * 2, 0);
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t index = 0; index < entries_.size(); ++index) {
    std::size_t slot = entries_[index].hash & mask;
    while (slots_[slot] != 0) slot = (slot + 1) & mask;
    slots_[slot] = index + 1;
  }
}

void ShardedWordCounts::feed(
    std::span<const std::string_view> texts, std::size_t num_threads,
    const std::function<void(std::string_view, WordCounts&)>& count_words) {
  const std::size_t num_workers = std::max<std::size_t>(1, std::min(num_threads, texts.size()));
  if (shards_.size() < num_workers) shards_.resize(num_workers);
  parallel_for(texts.size(), num_threads, [&](std::size_t worker, std::size_t index) {
    count_words(texts[index], shards_[worker]);
  });
}

std::vector<WordCounts::Word> ShardedWordCounts::joined() {
  for (std::size_t shard = 1; shard < shards_.size(); ++shard) {
    for (const auto& [bytes, count] : shards_[shard].sorted()) shards_[0].add(bytes, count);
  }
  shards_.resize(1);
  return shards_.front().sorted();
}

}  // namespace weldlm
