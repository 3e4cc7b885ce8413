// A flat trie over bytes: a node's child for a byte is found with one look into an array.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace weldlm {

class PrefixTrie {
 public:
  static constexpr std::uint32_t root = 0;
  static constexpr std::uint32_t nothing = 0xFFFFFFFFu;  // no node, or no id

  struct Entry {
    std::string_view key;
    std::uint32_t id;
  };

  // Of two entries with the same key the first holds; empty keys are left out.
  explicit PrefixTrie(std::vector<Entry> entries);

  // The child of a node for a byte, or nothing.
  std::uint32_t child(std::uint32_t node, char byte) const noexcept {
    const std::uint32_t slot = nodes_[node].base ^ static_cast<unsigned char>(byte);
    return nodes_[slot].parent == node ? slot : nothing;
  }

  // The id of the key that ends at a node, or nothing.
  std::uint32_t id(std::uint32_t node) const noexcept { return nodes_[node].id; }

  // The node behind all bytes of a key, or nothing.
  std::uint32_t find(std::string_view key) const noexcept;

 private:
  // Slots come in blocks of 256: the children of a node are in one block, at base ^ byte.
  struct Node {
    std::uint32_t base = 0;
    std::uint32_t parent = nothing;
    std::uint32_t id = nothing;
  };

  struct Range {
    std::size_t begin;
    std::size_t end;
    std::size_t depth;
    std::uint32_t node;
  };

  void add_children(const std::vector<Entry>& entries, const Range& range,
                    std::vector<Range>& pending);
  std::uint32_t place(const std::vector<unsigned char>& bytes);
  void add_block();

  std::vector<Node> nodes_;
  std::vector<std::uint32_t> open_blocks_;  // while the trie is built: those to look into
};

}  // namespace weldlm
