#include "tokenizer/prefix_trie.hpp"

#include <algorithm>

namespace weldlm {
namespace {

constexpr std::uint32_t slots_per_block = 256;
// Older blocks are nearly full: a look into them rarely finds room.
constexpr std::size_t max_open_blocks = 16;
// The root is a child of none, not even of itself.
constexpr std::uint32_t parent_of_root = PrefixTrie::nothing - 1;

}  // namespace

PrefixTrie::PrefixTrie(std::vector<Entry> entries) {
  std::erase_if(entries, [](const Entry& entry) { return entry.key.empty(); });
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& a, const Entry& b) { return a.key < b.key; });
  add_block();
  nodes_[root].parent = parent_of_root;
  std::vector<Range> pending{{0, entries.size(), 0, root}};
  while (!pending.empty()) {
    const Range range = pending.back();
    pending.pop_back();
    add_children(entries, range, pending);
  }
  open_blocks_ = {};
}

std::uint32_t PrefixTrie::find(std::string_view key) const noexcept {
  std::uint32_t node = root;
  for (const char byte : key) {
    node = child(node, byte);
    if (node == nothing) break;
  }
  return node;
}

// The entries of `range` have the key of its node as their first `depth` bytes.
void PrefixTrie::add_children(const std::vector<Entry>& entries, const Range& range,
                              std::vector<Range>& pending) {
  std::size_t begin = range.begin;
  for (; begin < range.end && entries[begin].key.size() == range.depth; ++begin) {
    if (nodes_[range.node].id == nothing) nodes_[range.node].id = entries[begin].id;
  }
  std::vector<unsigned char> bytes;
  std::vector<std::size_t> begins;
  for (std::size_t i = begin; i < range.end; ++i) {
    const auto byte = static_cast<unsigned char>(entries[i].key[range.depth]);
    if (!bytes.empty() && bytes.back() == byte) continue;
    bytes.push_back(byte);
    begins.push_back(i);
  }
  if (bytes.empty()) return;
  const std::uint32_t base = place(bytes);
  nodes_[range.node].base = base;
  begins.push_back(range.end);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const std::uint32_t slot = base ^ bytes[i];
    nodes_[slot].parent = range.node;
    pending.push_back({begins[i], begins[i + 1], range.depth + 1, slot});
  }
}

// A base whose slots for all of these bytes are free.
std::uint32_t PrefixTrie::place(const std::vector<unsigned char>& bytes) {
  const auto is_free = [&](std::uint32_t base) {
    return std::all_of(bytes.begin(), bytes.end(),
                       [&](unsigned char byte) { return nodes_[base ^ byte].parent == nothing; });
  };
  for (std::size_t i = open_blocks_.size(); i-- > 0;) {
    const std::uint32_t begin = open_blocks_[i];
    for (std::uint32_t base = begin; base < begin + slots_per_block; ++base) {
      if (is_free(base)) return base;
    }
    // no room for one byte is no room at all
    if (bytes.size() == 1)
      open_blocks_.erase(open_blocks_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  add_block();
  // the first block also holds the root
  return open_blocks_.back();
}

void PrefixTrie::add_block() {
  if (open_blocks_.size() == max_open_blocks) open_blocks_.erase(open_blocks_.begin());
  open_blocks_.push_back(static_cast<std::uint32_t>(nodes_.size()));
  nodes_.resize(nodes_.size() + slots_per_block);
}

}  // namespace weldlm
