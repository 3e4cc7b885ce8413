// Pretokenizers split normalized text into pieces; no token crosses a piece. Text between pieces,
// such as the white space that WordPiece drops, has no token.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/normalizer.hpp"

namespace weldlm {

class Pretokenizer {
 public:
  // About how many pieces `split` appends at a time.
  static constexpr std::size_t batch_size = 256;

  virtual ~Pretokenizer() = default;

  // Appends the pieces from `start` on, in order, a batch at a time; returns where the next batch
  // starts, text.size() after the last. Pieces are not empty.
  virtual std::size_t split(std::string_view text, std::size_t start,
                            std::vector<ByteRange>& pieces) const = 0;
};

// Each piece of a step is a text for the next one, which sees nothing around it.
class PretokenizerSequence : public Pretokenizer {
 public:
  explicit PretokenizerSequence(std::vector<std::shared_ptr<const Pretokenizer>> steps)
      : steps_(std::move(steps)) {}

  std::size_t split(std::string_view text, std::size_t start,
                    std::vector<ByteRange>& pieces) const override;

 private:
  std::vector<std::shared_ptr<const Pretokenizer>> steps_;
};

}  // namespace weldlm
