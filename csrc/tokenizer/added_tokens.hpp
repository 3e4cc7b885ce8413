// Tokens that stand for themselves in text: special tokens (<|endoftext|>), which a caller must
// allow, and ordinary added tokens, which always match.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace weldlm {

struct AddedToken {
  std::string content;
  std::uint32_t id;
  bool is_special;
  bool is_normalized = false;   // matched in a second pass, after all tokens that are not
  bool is_single_word = false;  // not matched beside a letter, digit or the like
  bool strips_left = false;     // takes the white space before it
  bool strips_right = false;    // takes the white space behind it
  std::string normalized = {};  // what a normalized token matches in normalized text
};

// Which added tokens take part, by their index in the list.
using TokenMask = std::vector<bool>;

class AddedTokens {
 public:
  // Time to find a match grows with the longest token, so that length has a limit.
  static constexpr std::size_t max_content_bytes = 256;

  // Where tokens are looked for: those that are not normalized in the text as it is, the others in
  // its normalized form, or as they are written in the text as it is, to refuse them.
  enum Pass : std::size_t { raw_pass, normalized_pass, written_pass, num_passes };

  struct Match {
    std::size_t begin;  // with the white space that the token takes
    std::size_t end;
    std::size_t index;
    std::size_t content_begin;  // without
  };

  // Throws std::invalid_argument on an empty, repeated or overlong content, and where tokens are
  // empty or the same when normalized.
  explicit AddedTokens(std::vector<AddedToken> tokens);

  const std::vector<AddedToken>& tokens() const noexcept { return tokens_; }

  // The mask of the ordinary added tokens and of the special tokens with the given ids.
  TokenMask mask_with(std::span<const std::uint32_t> special_ids) const;

  // The mask of the special tokens with the given ids alone.
  TokenMask mask_of(std::span<const std::uint32_t> special_ids) const;

  // The mask of all special tokens.
  TokenMask special_mask() const;

  // The leftmost match from `start` on, the longest of those, with the white space it takes; tokens
  // outside the mask are text.
  std::optional<Match> find(std::string_view text, std::size_t start, Pass pass,
                            const TokenMask& mask) const;

  // Throws std::invalid_argument that names the token if a token of the mask is in the text.
  void refuse(std::string_view text, std::string_view text_name, const TokenMask& mask) const;

 private:
  static constexpr std::size_t no_token = static_cast<std::size_t>(-1);

  struct Edge {
    unsigned char byte;
    std::size_t node;
  };

  struct Node {
    std::vector<Edge> edges;
    std::size_t token = no_token;
  };

  struct Trie {
    std::vector<Node> nodes = std::vector<Node>(1);
    std::string first_bytes;
    std::array<bool, 256> is_first{};
  };

  void insert(Trie& trie, std::string_view content, std::size_t index);
  // The first position from `start` on where a token may begin; text.size() or more if none.
  static std::size_t next_begin(const Trie& trie, std::string_view text,
                                std::size_t start) noexcept;
  static const Edge* edge(const Node& node, unsigned char byte) noexcept;
  std::optional<Match> find_content(std::string_view text, std::size_t start, Pass pass,
                                    const TokenMask& mask) const;
  std::optional<Match> match_at(const Trie& trie, std::string_view text, std::size_t begin,
                                const TokenMask& mask) const;

  std::vector<AddedToken> tokens_;
  std::unordered_map<std::uint32_t, std::size_t> indices_;  // id -> index in tokens_
  std::array<Trie, num_passes> tries_;
};

}  // namespace weldlm
