// What an encoding thread needs for itself. A call takes a state out and puts it back, without a
// lock: a process forked in the middle of a call only loses the states then in use.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "tokenizer/bpe.hpp"
#include "tokenizer/word_cache.hpp"

namespace weldlm {

struct EncoderState {
  explicit EncoderState(std::size_t num_ranks) : scratch(num_ranks) {}

  WordCache cache;
  BpeScratch scratch;
};

class EncoderPool {
 public:
  explicit EncoderPool(std::size_t num_ranks) : num_ranks_(num_ranks) {}
  EncoderPool(const EncoderPool&) = delete;
  EncoderPool& operator=(const EncoderPool&) = delete;
  ~EncoderPool() { clear(); }

  std::unique_ptr<EncoderState> take() {
    for (auto& slot : slots_) {
      if (EncoderState* state = slot.exchange(nullptr)) {
        return std::unique_ptr<EncoderState>(state);
      }
    }
    return std::make_unique<EncoderState>(num_ranks_);
  }

  // A state whose call failed is not put back: its queues may be half full.
  void put(std::unique_ptr<EncoderState> state) noexcept {
    for (auto& slot : slots_) {
      EncoderState* expected = nullptr;
      if (slot.compare_exchange_strong(expected, state.get())) {
        static_cast<void>(state.release());
        return;
      }
    }
  }

  void clear() noexcept {
    for (auto& slot : slots_) std::unique_ptr<EncoderState>(slot.exchange(nullptr)).reset();
  }

 private:
  static constexpr std::size_t max_kept_states = 64;

  std::size_t num_ranks_;
  std::array<std::atomic<EncoderState*>, max_kept_states> slots_{};
};

}  // namespace weldlm
