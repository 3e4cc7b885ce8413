// Byte pair encoding of one piece: the pair of lowest rank merges first, the leftmost of equals.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "tokenizer/flat_array.hpp"
#include "tokenizer/merge_table.hpp"
#include "tokenizer/model.hpp"
#include "tokenizer/rank_queue.hpp"
#include "tokenizer/vocabulary.hpp"

namespace weldlm {

// Memory that long pieces need.
struct BpeWorkspace : Workspace {
  explicit BpeWorkspace(std::size_t num_ranks) : queue(num_ranks) {}

  RankQueue queue;
  std::vector<std::uint32_t> ids;
  std::vector<std::uint32_t> next;
  std::vector<std::uint32_t> previous;
};

struct BpeOptions {
  bool ignore_merges = false;  // a piece that is a token is that token
  bool shares_ranks = false;   // merges into one token have one rank, as in a list of ranks
  bool drops_bytes = false;    // a byte may have no token: it is left out of the text
};

// Every way to join two tokens to a third one, in the order of the ids of the joined tokens: the
// merges of tiktoken, where the rank of a pair is that of its bytes. Throws std::invalid_argument
// on a token of more than max_ranked_bytes.
inline constexpr std::size_t max_ranked_bytes = 4096;
std::vector<Merge> merges_of_ranks(const Vocabulary& vocabulary);

// BPE over bytes.
class ByteBpe : public Model {
 public:
  // `merges` in the order of their ranks. Throws std::invalid_argument unless every merge joins the
  // bytes of its parts and, where none may be dropped, every byte has a token.
  ByteBpe(std::shared_ptr<const Vocabulary> vocabulary, std::vector<Merge> merges,
          BpeOptions options = {});
  explicit ByteBpe(ImageReader& image);

  void write(ImageWriter& image) const;

  const Vocabulary& vocabulary() const noexcept { return *vocabulary_; }
  std::span<const Merge> merges() const noexcept { return merges_.view(); }

  std::unique_ptr<Workspace> make_workspace() const override;

  // Time is O(n log n) in the bytes of the piece.
  void encode(std::string_view piece, Workspace* workspace, TokenSink& sink) const override;

 private:
  void check_image() const;
  void encode_known(std::string_view piece, BpeWorkspace& workspace, TokenSink& sink) const;
  void encode_dropping(std::string_view piece, BpeWorkspace& workspace, TokenSink& sink) const;
  bool is_dropped(char byte) const noexcept {
    return byte_ids_[static_cast<unsigned char>(byte)] == no_rank;
  }
  void encode_short(std::string_view piece, TokenSink& sink) const;
  void encode_long(std::string_view piece, BpeWorkspace& workspace, TokenSink& sink) const;
  void link_bytes(std::string_view piece, BpeWorkspace& workspace) const;
  void merge_linked(BpeWorkspace& workspace) const;
  void add(std::uint32_t id, TokenSink& sink) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  std::array<std::uint32_t, 256> byte_ids_;  // no_rank: the byte has none
  bool has_every_byte_;
  FlatArray<Merge> merges_;
  MergeTable ranks_;
  FlatArray<std::uint32_t> results_;  // the token of each rank
  BpeOptions options_;
  FlatArray<std::uint32_t> sizes_;  // of each token, in bytes
  std::size_t max_token_bytes_;
};

}  // namespace weldlm
