// Looking for the keys of a trie in a text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tokenizer/prefix_trie.hpp"

namespace weldlm {

// The id of exactly this key, or nothing.
inline std::uint32_t id_of(const PrefixTrie& trie, std::string_view key) noexcept {
  const std::uint32_t node = trie.find(key);
  return node == PrefixTrie::nothing ? node : trie.id(node);
}

struct KeyMatch {
  std::size_t size = 0;  // of the key; 0 where none was found
  std::uint32_t id = PrefixTrie::nothing;
};

// The longest key that the text has at `start`.
inline KeyMatch longest_key(const PrefixTrie& trie, std::string_view text,
                            std::size_t start) noexcept {
  KeyMatch longest;
  std::uint32_t node = PrefixTrie::root;
  for (std::size_t end = start; end < text.size();) {
    node = trie.child(node, text[end++]);
    if (node == PrefixTrie::nothing) break;
    if (trie.id(node) != PrefixTrie::nothing) longest = {end - start, trie.id(node)};
  }
  return longest;
}

}  // namespace weldlm
