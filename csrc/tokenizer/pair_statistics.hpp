// Occurrences of neighboring pairs while BPE trains: a count for each pair ever seen, and the
// words in which it came up since it was last queued.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace weldlm {

class PairStatistics {
 public:
  std::int64_t count(std::uint64_t pair) { return stats_[index_of(pair)].count; }

  // `word` is remembered for a positive change. Words of one pair come in ascending order.
  void change(std::uint64_t pair, std::int64_t amount, std::uint32_t word) {
    const std::size_t index = index_of(pair);
    Statistic& statistic = stats_[index];
    statistic.count += amount;
    if (amount <= 0) return;
    if (statistic.words.empty()) touched_.push_back(index);
    if (statistic.words.empty() || statistic.words.back() != word) {
      statistic.words.push_back(word);
    }
  }

  // Calls visit(pair, count, words) for each pair with remembered words and forgets these.
  template <typename Visit>
  void drain(const Visit& visit) {
    for (const std::size_t index : touched_) {
      Statistic& statistic = stats_[index];
      visit(statistic.pair, statistic.count, std::exchange(statistic.words, {}));
    }
    touched_.clear();
  }

 private:
  struct Statistic {
    std::uint64_t pair;
    std::int64_t count = 0;
    std::vector<std::uint32_t> words;
  };

  std::size_t index_of(std::uint64_t pair) {
    std::size_t slot = slot_of(pair);
    if (slots_[slot] != 0) return slots_[slot] - 1;
    stats_.push_back({pair, 0, {}});
    slots_[slot] = static_cast<std::uint32_t>(stats_.size());
    if (stats_.size() * 2 > slots_.size()) grow();
    return stats_.size() - 1;
  }

  std::size_t slot_of(std::uint64_t pair) const noexcept {
    const int shift = 64 - std::countr_zero(slots_.size());
    std::size_t slot = (pair * 0x9E3779B97F4A7C15u) >> shift;
    while (slots_[slot] != 0 && stats_[slots_[slot] - 1].pair != pair) {
      slot = (slot + 1) & (slots_.size() - 1);
    }
    return slot;
  }

  void grow() {
    slots_.assign(slots_.size() * 2, 0);
    for (std::size_t index = 0; index < stats_.size(); ++index) {
      slots_[slot_of(stats_[index].pair)] = static_cast<std::uint32_t>(index + 1);
    }
  }

  std::vector<Statistic> stats_;
  std::vector<std::uint32_t> slots_ = std::vector<std::uint32_t>(1024);  // index + 1; 0 is free
  std::vector<std::size_t> touched_;
};

}  // namespace weldlm
