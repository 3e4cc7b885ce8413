// A model turns a piece of text into ids: BPE, WordPiece, Unigram. Const methods may run in several
// threads at once; what a thread needs for itself is in a workspace of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace weldlm {

// Ids and, where they are asked for, the bytes of the piece that each id stands for: end to end,
// the sizes of a piece add up to its size.
struct TokenSink {
  std::vector<std::uint32_t> ids;
  std::vector<std::uint32_t> sizes;  // empty unless wants_sizes
  bool wants_sizes = false;

  void add(std::uint32_t id, std::size_t size) {
    ids.push_back(id);
    if (wants_sizes) sizes.push_back(static_cast<std::uint32_t>(size));
  }
};

// Memory that a model needs between pieces; each model has a type of its own.
class Workspace {
 public:
  virtual ~Workspace() = default;
};

class Model {
 public:
  // Pieces have fewer bytes, so that positions in them fit into 32 bits.
  static constexpr std::size_t max_piece_bytes = 0xFFFFFFFFu;

  virtual ~Model() = default;

  // May be null.
  virtual std::unique_ptr<Workspace> make_workspace() const { return nullptr; }

  // Appends the ids of `piece`, which is not empty. The ids depend on the piece alone.
  virtual void encode(std::string_view piece, Workspace* workspace, TokenSink& sink) const = 0;
};

}  // namespace weldlm
