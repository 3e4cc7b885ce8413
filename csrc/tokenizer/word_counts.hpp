// How often each word occurred. Words are copied into arenas.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace weldlm {

class WordCounts {
 public:
  struct Word {
    std::string_view bytes;
    std::int64_t count;
  };

  void add(std::string_view word, std::int64_t count);
  std::size_t size() const noexcept { return entries_.size(); }

  // All words in the order of their bytes, valid until the next add.
  std::vector<Word> sorted() const;

 private:
  struct Entry {
    std::size_t hash;
    std::size_t begin;
    std::size_t size;
    std::int64_t count;
  };

  std::string_view bytes(const Entry& entry) const noexcept {
    return std::string_view(arena_).substr(entry.begin, entry.size);
  }
  void grow();

  std::string arena_;
  std::vector<Entry> entries_;
  std::vector<std::size_t> slots_ = std::vector<std::size_t>(1024);  // index + 1; 0 is free
};

// Counts of several threads, each in a shard of its own.
class ShardedWordCounts {
 public:
  // Calls count_words(text, counts of the thread) for each text.
  void feed(std::span<const std::string_view> texts, std::size_t num_threads,
            const std::function<void(std::string_view, WordCounts&)>& count_words);

  // All words in the order of their bytes, valid until the next feed.
  std::vector<WordCounts::Word> joined();

 private:
  std::vector<WordCounts> shards_ = std::vector<WordCounts>(1);
};

}  // namespace weldlm
