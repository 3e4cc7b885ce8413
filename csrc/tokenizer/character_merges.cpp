#include "tokenizer/character_merges.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <stdexcept>
#include <string_view>
#include <unordered_map>

#include "tokenizer/prefix_trie.hpp"
#include "tokenizer/trie_search.hpp"
#include "tokenizer/unicode.hpp"

namespace weldlm {
namespace {

const std::string& token_of(std::span<const std::string> tokens, std::uint32_t id) {
  if (id < tokens.size()) return tokens[id];
  throw std::invalid_argument("id " + std::to_string(id) +
                              " is not in the vocabulary: expected 0 to " +
                              std::to_string(tokens.size() - 1));
}

class ScoreMerges {
 public:
  ScoreMerges(std::span<const std::string> tokens, std::span<const std::uint32_t> merged_ids)
      : tokens_(tokens), trie_(pieces(tokens, merged_ids)) {}

  // All ways to build the token from two symbols.
  void add(std::uint32_t id, std::uint32_t rank) {
    const std::string_view token = tokens_[id];
    std::uint32_t node = PrefixTrie::root;
    std::size_t pos = 0;
    while (pos < token.size()) {
      const std::size_t end = pos + char_at(token, pos).size;
      for (std::size_t i = pos; i < end && node != PrefixTrie::nothing; ++i) {
        node = trie_.child(node, token[i]);
      }
      if (end == token.size()) return;
      const std::uint32_t known =
          node == PrefixTrie::nothing ? PrefixTrie::nothing : trie_.id(node);
      const std::uint32_t left =
          known == PrefixTrie::nothing && pos == 0 ? character(token.substr(0, end)) : known;
      if (left != PrefixTrie::nothing) add_pair(left, token.substr(end), id, rank);
      pos = end;
    }
  }

  CharacterMerges take() { return std::move(found_); }

 private:
  static PrefixTrie pieces(std::span<const std::string> tokens,
                           std::span<const std::uint32_t> merged_ids) {
    std::vector<PrefixTrie::Entry> pieces;
    for (const std::uint32_t id : merged_ids) pieces.push_back({token_of(tokens, id), id});
    return PrefixTrie(std::move(pieces));
  }

  void add_pair(std::uint32_t left, std::string_view rest, std::uint32_t id, std::uint32_t rank) {
    std::uint32_t right = id_of(trie_, rest);
    if (right == PrefixTrie::nothing && char_at(rest, 0).size == rest.size())
      right = character(rest);
    if (right != PrefixTrie::nothing) found_.merges.push_back({left, right, id, rank});
  }

  // The symbol of a character that is no token.
  std::uint32_t character(std::string_view bytes) {
    const auto symbol = static_cast<std::uint32_t>(tokens_.size() + found_.characters.size());
    const auto [at, is_new] = symbols_.emplace(bytes, symbol);
    if (is_new) found_.characters.emplace_back(bytes);
    return at->second;
  }

  std::span<const std::string> tokens_;
  PrefixTrie trie_;
  std::unordered_map<std::string_view, std::uint32_t> symbols_;
  CharacterMerges found_;
};

}  // namespace

CharacterMerges merges_by_score(std::span<const std::string> tokens,
                                std::span<const std::uint32_t> merged_ids,
                                std::span<const float> scores) {
  if (scores.size() != tokens.size()) {
    throw std::invalid_argument(std::to_string(scores.size()) + " scores of " +
                                std::to_string(tokens.size()) + " tokens; expected one of each");
  }
  std::vector<float> order;
  for (const std::uint32_t id : merged_ids) {
    static_cast<void>(token_of(tokens, id));
    if (std::isnan(scores[id])) {
      throw std::invalid_argument("the score of id " + std::to_string(id) + " is not a number");
    }
    order.push_back(scores[id]);
  }
  std::sort(order.begin(), order.end(), std::greater<>{});
  order.erase(std::unique(order.begin(), order.end()), order.end());
  ScoreMerges merges(tokens, merged_ids);
  for (const std::uint32_t id : merged_ids) {
    const auto at = std::lower_bound(order.begin(), order.end(), scores[id], std::greater<>{});
    merges.add(id, static_cast<std::uint32_t>(at - order.begin()));
  }
  return merges.take();
}

CharacterMerges merges_by_rank(std::span<const std::string> tokens, std::span<const Merge> merges) {
  CharacterMerges ranked;
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left, right, result] = merges[rank];
    const std::string& first = token_of(tokens, left);
    const std::string& second = token_of(tokens, right);
    if (first.empty() || second.empty() || first + second != token_of(tokens, result)) {
      throw std::invalid_argument("merge " + std::to_string(rank) + " joins ids " +
                                  std::to_string(left) + " and " + std::to_string(right) +
                                  " into id " + std::to_string(result) +
                                  ", whose bytes are not theirs end to end");
    }
    ranked.merges.push_back({left, right, result, static_cast<std::uint32_t>(rank)});
  }
  return ranked;
}

}  // namespace weldlm
