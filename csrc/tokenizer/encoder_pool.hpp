// What an encoding thread needs for itself. A call takes a state out and puts it back, without a
// lock: a process forked in the middle of a call only loses the states then in use.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "tokenizer/model.hpp"
#include "tokenizer/normalizer.hpp"
#include "tokenizer/word_cache.hpp"

namespace weldlm {

struct EncoderState {
  explicit EncoderState(std::unique_ptr<Workspace> model_workspace)
      : workspace(std::move(model_workspace)) {}

  WordCache cache;
  std::unique_ptr<Workspace> workspace;
  std::vector<ByteRange> pieces;
};

class EncoderPool {
 public:
  explicit EncoderPool(std::shared_ptr<const Model> model) : model_(std::move(model)) {}
  EncoderPool(const EncoderPool&) = delete;
  EncoderPool& operator=(const EncoderPool&) = delete;
  ~EncoderPool() { clear(); }

  std::unique_ptr<EncoderState> take() {
    for (auto& slot : slots_) {
      if (EncoderState* state = slot.exchange(nullptr)) {
        return std::unique_ptr<EncoderState>(state);
      }
    }
    return std::make_unique<EncoderState>(model_->make_workspace());
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

  std::shared_ptr<const Model> model_;
  std::array<std::atomic<EncoderState*>, max_kept_states> slots_{};
};

}  // namespace weldlm
