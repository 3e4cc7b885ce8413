#include "tokenizer/added_tokens.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <utility>

#include "tokenizer/code_points.hpp"
#include "tokenizer/unicode.hpp"

namespace weldlm {
namespace {

// Characters of \w that their general category does not tell: connector punctuation, letter
// numbers, joiners and circled letters.
constexpr std::array<std::pair<char32_t, char32_t>, 23> other_word_characters{{
    {0x5F, 0x5F},       {0x16EE, 0x16F0},   {0x200C, 0x200D},   {0x203F, 0x2040},
    {0x2054, 0x2054},   {0x2160, 0x2182},   {0x2185, 0x2188},   {0x24B6, 0x24E9},
    {0x3007, 0x3007},   {0x3021, 0x3029},   {0x3038, 0x303A},   {0xA6E6, 0xA6EF},
    {0xFE33, 0xFE34},   {0xFE4D, 0xFE4F},   {0xFF3F, 0xFF3F},   {0x10140, 0x10174},
    {0x10341, 0x10341}, {0x1034A, 0x1034A}, {0x103D1, 0x103D5}, {0x12400, 0x1246E},
    {0x1F130, 0x1F149}, {0x1F150, 0x1F169}, {0x1F170, 0x1F189},
}};

constexpr CharClasses word_classes = letter_classes | classes_of(CharClass::mark, CharClass::digit);

bool is_word(char32_t code_point) noexcept {
  if (word_classes.holds(char_class(code_point))) return true;
  return std::any_of(
      other_word_characters.begin(), other_word_characters.end(),
      [&](const auto& range) { return range.first <= code_point && code_point <= range.second; });
}

// The character that ends at `end` > 0.
std::size_t previous_begin(std::string_view text, std::size_t end) noexcept {
  std::size_t begin = end - 1;
  while (begin > 0 && end - begin < 4 && is_continuation(text, begin)) --begin;
  return begin;
}

bool touches_word(std::string_view text, std::size_t begin, std::size_t end) noexcept {
  if (begin > 0 && is_word(code_point_at(text, previous_begin(text, begin)).value)) return true;
  return end < text.size() && is_word(code_point_at(text, end).value);
}

std::size_t skip_spaces(std::string_view text, std::size_t pos) noexcept {
  while (pos < text.size()) {
    const Char next = char_at(text, pos);
    if (next.kind != CharClass::space) break;
    pos += next.size;
  }
  return pos;
}

std::size_t skip_spaces_back(std::string_view text, std::size_t pos) noexcept {
  while (pos > 0) {
    const std::size_t begin = previous_begin(text, pos);
    if (char_at(text, begin).kind != CharClass::space) break;
    pos = begin;
  }
  return pos;
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  for (std::size_t index = 0; index < tokens_.size(); ++index) {
    const AddedToken& token = tokens_[index];
    if (token.content.empty() || token.content.size() > max_content_bytes) {
      throw std::invalid_argument("added token " + std::to_string(token.id) + " has " +
                                  std::to_string(token.content.size()) + " bytes; expected 1 to " +
                                  std::to_string(max_content_bytes));
    }
    if (token.is_normalized) {
      insert(tries_[written_pass], token.content, index);
      if (token.normalized.empty()) {
        throw std::invalid_argument("added token '" + token.content +
                                    "' is empty once it is normalized; expected some text: "
                                    "mark it as not normalized");
      }
      insert(tries_[normalized_pass], token.normalized, index);
    } else {
      insert(tries_[raw_pass], token.content, index);
    }
    indices_[token.id] = index;
  }
}

TokenMask AddedTokens::mask_with(std::span<const std::uint32_t> special_ids) const {
  TokenMask mask = mask_of(special_ids);
  for (std::size_t index = 0; index < tokens_.size(); ++index) {
    if (!tokens_[index].is_special) mask[index] = true;
  }
  return mask;
}

TokenMask AddedTokens::mask_of(std::span<const std::uint32_t> special_ids) const {
  TokenMask mask(tokens_.size(), false);
  for (const std::uint32_t id : special_ids) {
    const auto found = indices_.find(id);
    if (found != indices_.end()) mask[found->second] = tokens_[found->second].is_special;
  }
  return mask;
}

TokenMask AddedTokens::special_mask() const {
  TokenMask mask(tokens_.size());
  for (std::size_t index = 0; index < tokens_.size(); ++index) {
    mask[index] = tokens_[index].is_special;
  }
  return mask;
}

std::optional<AddedTokens::Match> AddedTokens::find(std::string_view text, std::size_t start,
                                                    Pass pass, const TokenMask& mask) const {
  std::size_t from = start;
  while (auto match = find_content(text, from, pass, mask)) {
    const AddedToken& token = tokens_[match->index];
    from = match->end;
    if (token.is_single_word && touches_word(text, match->begin, match->end)) continue;
    if (token.strips_left) match->begin = std::max(start, skip_spaces_back(text, match->begin));
    if (token.strips_right) match->end = skip_spaces(text, match->end);
    return match;
  }
  return std::nullopt;
}

std::optional<AddedTokens::Match> AddedTokens::find_content(std::string_view text,
                                                            std::size_t start, Pass pass,
                                                            const TokenMask& mask) const {
  const Trie& trie = tries_[pass];
  if (trie.first_bytes.empty() || std::find(mask.begin(), mask.end(), true) == mask.end()) {
    return std::nullopt;
  }
  for (std::size_t begin = next_begin(trie, text, start); begin < text.size();
       begin = next_begin(trie, text, begin + 1)) {
    if (auto match = match_at(trie, text, begin, mask)) return match;
  }
  return std::nullopt;
}

void AddedTokens::refuse(std::string_view text, std::string_view text_name,
                         const TokenMask& mask) const {
  for (const Pass pass : {raw_pass, written_pass}) {
    const auto match = find(text, 0, pass, mask);
    if (!match) continue;
    const std::string token = "'" + tokens_[match->index].content + "'";
    throw std::invalid_argument(
        std::string(text_name) + " contains the special token " + token + " at byte " +
        std::to_string(match->begin) + ": pass allowed_special={" + token +
        "} to encode it as that token, or disallowed_special=() (or call encode_ordinary) to "
        "encode it as plain text");
  }
}

void AddedTokens::insert(Trie& trie, std::string_view content, std::size_t index) {
  const char first = content.front();
  if (trie.first_bytes.find(first) == std::string::npos) trie.first_bytes += first;
  trie.is_first[static_cast<unsigned char>(first)] = true;
  std::size_t node = 0;
  for (const char character : content) {
    const auto byte = static_cast<unsigned char>(character);
    if (const Edge* found = edge(trie.nodes[node], byte)) {
      node = found->node;
      continue;
    }
    trie.nodes[node].edges.push_back({byte, trie.nodes.size()});
    node = trie.nodes.size();
    trie.nodes.emplace_back();
  }
  if (trie.nodes[node].token != no_token) {
    throw std::invalid_argument("added token '" + tokens_[index].content +
                                "' is given twice, or normalized as another one is");
  }
  trie.nodes[node].token = index;
}

std::size_t AddedTokens::next_begin(const Trie& trie, std::string_view text,
                                    std::size_t start) noexcept {
  if (trie.first_bytes.size() == 1) return text.find(trie.first_bytes.front(), start);
  while (start < text.size() && !trie.is_first[static_cast<unsigned char>(text[start])]) ++start;
  return start;
}

const AddedTokens::Edge* AddedTokens::edge(const Node& node, unsigned char byte) noexcept {
  const auto found = std::find_if(node.edges.begin(), node.edges.end(),
                                  [byte](const Edge& edge) { return edge.byte == byte; });
  return found == node.edges.end() ? nullptr : &*found;
}

std::optional<AddedTokens::Match> AddedTokens::match_at(const Trie& trie, std::string_view text,
                                                        std::size_t begin,
                                                        const TokenMask& mask) const {
  std::optional<Match> longest;
  std::size_t node = 0;
  for (std::size_t pos = begin; pos < text.size(); ++pos) {
    const Edge* next = edge(trie.nodes[node], static_cast<unsigned char>(text[pos]));
    if (next == nullptr) break;
    node = next->node;
    const std::size_t token = trie.nodes[node].token;
    if (token != no_token && mask[token]) longest = Match{begin, pos + 1, token, begin};
  }
  return longest;
}

}  // namespace weldlm
