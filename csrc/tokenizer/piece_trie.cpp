#include "tokenizer/piece_trie.hpp"

#include <algorithm>
#include <array>

namespace weldlm {
namespace {

constexpr std::uint32_t block_size = 256;
// Places tried for the children of a node before a new block is opened for them.
constexpr std::size_t max_tries = 512;

}  // namespace

// Places the nodes; units that are free form a ring in the order of their indices.
class PieceTrie::Builder {
 public:
  Builder(std::vector<Unit>& units, const std::vector<Piece>& pieces)
      : units_(units), pieces_(pieces) {
    add_block();
    take(root, root);
  }

  void build() {
    if (!pieces_.empty()) pending_.push_back({root, 0, 0, pieces_.size()});
    while (!pending_.empty()) {
      const Range range = pending_.back();
      pending_.pop_back();
      place_children(range);
    }
  }

 private:
  // The pieces [begin, end) share their first `depth` bytes, which lead to `node`.
  struct Range {
    std::uint32_t node;
    std::size_t depth;
    std::size_t begin;
    std::size_t end;
  };

  unsigned char label(std::size_t piece, std::size_t depth) const {
    return static_cast<unsigned char>(pieces_[piece].bytes[depth]);
  }

  void place_children(Range range) {
    for (; range.begin < range.end && pieces_[range.begin].bytes.size() == range.depth;
         ++range.begin) {
      units_[range.node].value = pieces_[range.begin].value;
    }
    if (range.begin == range.end) return;
    labels_.clear();
    for (std::size_t piece = range.begin; piece < range.end; ++piece) {
      const unsigned char next = label(piece, range.depth);
      if (labels_.empty() || labels_.back() != next) labels_.push_back(next);
    }
    const std::uint32_t base = find_base();
    units_[range.node].base = base;
    for (const unsigned char next : labels_) take(base ^ next, range.node);
    std::size_t begin = range.begin;
    for (const unsigned char next : labels_) {
      std::size_t end = begin;
      while (end < range.end && label(end, range.depth) == next) ++end;
      pending_.push_back({base ^ next, range.depth + 1, begin, end});
      begin = end;
    }
  }

  std::uint32_t find_base() {
    std::uint32_t unit = first_free_;
    for (std::size_t tries = 0; tries < max_tries && unit != none; ++tries) {
      const std::uint32_t base = unit ^ labels_.front();
      const bool fits = std::all_of(labels_.begin(), labels_.end(), [&](unsigned char next) {
        return units_[base ^ next].parent == none;
      });
      if (fits) return base;
      unit = next_free_[unit];
    }
    add_block();
    return static_cast<std::uint32_t>(units_.size()) - block_size;
  }

  void add_block() {
    const auto begin = static_cast<std::uint32_t>(units_.size());
    units_.resize(begin + block_size);
    next_free_.resize(begin + block_size);
    previous_free_.resize(begin + block_size);
    for (std::uint32_t unit = begin; unit < begin + block_size; ++unit) {
      next_free_[unit] = none;
      previous_free_[unit] = last_free_;
      (last_free_ == none ? first_free_ : next_free_[last_free_]) = unit;
      last_free_ = unit;
    }
  }

  void take(std::uint32_t unit, std::uint32_t parent) {
    units_[unit].parent = parent;
    const std::uint32_t next = next_free_[unit];
    const std::uint32_t previous = previous_free_[unit];
    (previous == none ? first_free_ : next_free_[previous]) = next;
    (next == none ? last_free_ : previous_free_[next]) = previous;
  }

  std::vector<Unit>& units_;
  const std::vector<Piece>& pieces_;
  std::vector<Range> pending_;
  std::vector<unsigned char> labels_;
  std::vector<std::uint32_t> next_free_;
  std::vector<std::uint32_t> previous_free_;
  std::uint32_t first_free_ = none;
  std::uint32_t last_free_ = none;
};

PieceTrie::PieceTrie(std::vector<Piece> pieces) : is_empty_(pieces.empty()) {
  std::stable_sort(pieces.begin(), pieces.end(),
                   [](const Piece& a, const Piece& b) { return a.bytes < b.bytes; });
  Builder(units_, pieces).build();
  // the root is no child of its own
  units_[root].parent = none;
}

std::uint32_t PieceTrie::find(std::string_view bytes) const noexcept {
  std::uint32_t node = root;
  for (const char byte : bytes) {
    node = child(node, byte);
    if (node == none) return none;
  }
  return value(node);
}

std::size_t PieceTrie::longest_match(std::string_view text, std::size_t start) const noexcept {
  std::size_t longest = 0;
  std::uint32_t node = root;
  for (std::size_t end = start; end < text.size();) {
    node = child(node, text[end]);
    if (node == none) break;
    ++end;
    if (value(node) != none) longest = end - start;
  }
  return longest;
}

}  // namespace weldlm
