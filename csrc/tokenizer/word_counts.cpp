#include "tokenizer/word_counts.hpp"

#include <algorithm>
#include <functional>

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

}  // namespace weldlm
