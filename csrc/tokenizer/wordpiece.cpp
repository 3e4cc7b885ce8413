#include "tokenizer/wordpiece.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>
#include <vector>

namespace weldlm {
namespace {

std::vector<PrefixTrie::Entry> entries_of(const Vocabulary& vocabulary,
                                          const WordPieceOptions& options) {
  const std::size_t num_tokens = options.num_tokens;
  const std::uint32_t unk_id = options.unk_id;
  if (num_tokens > vocabulary.size() || unk_id >= num_tokens) {
    throw std::invalid_argument("unk_id is " + std::to_string(unk_id) + " of " +
                                std::to_string(num_tokens) + " tokens in a vocabulary of " +
                                std::to_string(vocabulary.size()) +
                                "; expected unk_id < tokens <= vocabulary");
  }
  std::vector<PrefixTrie::Entry> entries;
  entries.reserve(num_tokens);
  for (std::uint32_t id = 0; id < num_tokens; ++id) {
    entries.push_back({vocabulary.token(id), id});
  }
  return entries;
}

}  // namespace

WordPiece::WordPiece(const Vocabulary& vocabulary, const WordPieceOptions& options)
    : trie_(entries_of(vocabulary, options)),
      continuing_node_(trie_.find(options.continuing_prefix)),
      unk_id_(options.unk_id),
      max_chars_per_word_(options.max_chars_per_word) {}

void WordPiece::encode(std::string_view piece, Workspace*, TokenSink& sink) const {
  const std::size_t num_ids = sink.ids.size();
  const std::size_t num_sizes = sink.sizes.size();
  bool is_spelled = !is_too_long(piece);
  for (std::size_t begin = 0; is_spelled && begin < piece.size();) {
    std::uint32_t node = begin == 0 ? PrefixTrie::root : continuing_node_;
    std::uint32_t id = PrefixTrie::nothing;
    std::size_t end = begin;
    for (std::size_t i = begin; node != PrefixTrie::nothing && i < piece.size(); ++i) {
      node = trie_.child(node, piece[i]);
      if (node == PrefixTrie::nothing) break;
      if (trie_.id(node) == PrefixTrie::nothing) continue;
      id = trie_.id(node);
      end = i + 1;
    }
    is_spelled = id != PrefixTrie::nothing;
    if (is_spelled) sink.add(id, end - begin);
    begin = end;
  }
  if (is_spelled) return;
  sink.ids.resize(num_ids);
  sink.sizes.resize(num_sizes);
  sink.add(unk_id_, piece.size());
}

bool WordPiece::is_too_long(std::string_view piece) const noexcept {
  if (piece.size() <= max_chars_per_word_) return false;
  const auto num_chars = std::count_if(piece.begin(), piece.end(), [](char byte) {
    return (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
  });
  return static_cast<std::size_t>(num_chars) > max_chars_per_word_;
}

}  // namespace weldlm
