// A priority queue of (rank, position), smallest first, for the merges of one long piece.
// Positions of one rank mostly arrive in ascending order, so each rank keeps a sorted run and a
// small heap for the late ones; a heap of ranks says which comes next.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "tokenizer/merge_table.hpp"

namespace weldlm {

class PositionQueue {
 public:
  bool empty() const noexcept { return head_ == ascending_.size() && late_.empty(); }

  void push(std::uint32_t position) {
    if (ascending_.empty() || position > ascending_.back()) {
      ascending_.push_back(position);
      return;
    }
    late_.push_back(position);
    std::push_heap(late_.begin(), late_.end(), std::greater<>{});
  }

  std::uint32_t pop() {
    const bool has_ascending = head_ < ascending_.size();
    if (has_ascending && (late_.empty() || ascending_[head_] < late_.front())) {
      return ascending_[head_++];
    }
    std::pop_heap(late_.begin(), late_.end(), std::greater<>{});
    const std::uint32_t position = late_.back();
    late_.pop_back();
    return position;
  }

  void clear() noexcept {
    ascending_.clear();
    late_.clear();
    head_ = 0;
  }

 private:
  std::vector<std::uint32_t> ascending_;
  std::vector<std::uint32_t> late_;
  std::size_t head_ = 0;
};

class RankQueue {
 public:
  struct Entry {
    std::uint32_t rank;
    std::uint32_t position;
  };

  explicit RankQueue(std::size_t num_ranks) : queue_of_(num_ranks, no_rank) {}

  bool empty() const noexcept { return active_.empty(); }

  void push(std::uint32_t rank, std::uint32_t position) {
    PositionQueue& positions = positions_of(rank);
    if (positions.empty()) {
      active_.push_back(rank);
      std::push_heap(active_.begin(), active_.end(), std::greater<>{});
    }
    positions.push(position);
  }

  Entry pop() {
    const std::uint32_t rank = active_.front();
    PositionQueue& positions = queues_[queue_of_[rank]];
    const std::uint32_t position = positions.pop();
    if (positions.empty()) {
      positions.clear();
      std::pop_heap(active_.begin(), active_.end(), std::greater<>{});
      active_.pop_back();
    }
    return {rank, position};
  }

  // Forgets which ranks were seen; called on an empty queue, keeps the memory.
  void reset() noexcept {
    for (const std::uint32_t rank : seen_) queue_of_[rank] = no_rank;
    seen_.clear();
  }

 private:
  PositionQueue& positions_of(std::uint32_t rank) {
    if (queue_of_[rank] == no_rank) {
      queue_of_[rank] = static_cast<std::uint32_t>(seen_.size());
      seen_.push_back(rank);
      if (seen_.size() > queues_.size()) queues_.emplace_back();
    }
    return queues_[queue_of_[rank]];
  }

  std::vector<std::uint32_t> queue_of_;  // rank -> index in queues_
  std::vector<PositionQueue> queues_;
  std::vector<std::uint32_t> seen_;
  std::vector<std::uint32_t> active_;  // heap of the ranks whose queue holds something
};

}  // namespace weldlm
