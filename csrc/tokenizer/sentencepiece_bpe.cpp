#include "tokenizer/sentencepiece_bpe.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <utility>

#include "tokenizer/code_points.hpp"
#include "tokenizer/rank_queue.hpp"
#include "tokenizer/trie_search.hpp"

namespace weldlm {
namespace {

// Up to this many symbols a scan over a flat array beats a queue.
constexpr std::size_t max_few = 64;
// Scratch memory that a longer piece asked for is given back after it.
constexpr std::size_t max_kept_symbols = std::size_t{1} << 16;
constexpr std::uint32_t no_position = std::numeric_limits<std::uint32_t>::max();
constexpr std::uint32_t merged_away = std::numeric_limits<std::uint32_t>::max();

CharacterBpeVocabulary checked(CharacterBpeVocabulary vocabulary) {
  const std::size_t num_tokens = vocabulary.tokens.size();
  if (vocabulary.byte_ids.size() != 0 && vocabulary.byte_ids.size() != 256) {
    throw std::invalid_argument(std::to_string(vocabulary.byte_ids.size()) +
                                " tokens of bytes; expected none or 256");
  }
  const auto require = [&](std::uint32_t id) {
    if (id < num_tokens) return;
    throw std::invalid_argument("id " + std::to_string(id) + " is not in the vocabulary of " +
                                std::to_string(num_tokens) + " tokens");
  };
  require(vocabulary.unknown_id);
  for (const auto* ids : {&vocabulary.merged_ids, &vocabulary.unsplit_ids, &vocabulary.byte_ids}) {
    std::for_each(ids->begin(), ids->end(), require);
  }
  return vocabulary;
}

PrefixTrie unsplit_trie(const CharacterBpeVocabulary& vocabulary) {
  std::vector<PrefixTrie::Entry> pieces;
  for (const std::uint32_t id : vocabulary.unsplit_ids) {
    if (!vocabulary.tokens[id].empty()) pieces.push_back({vocabulary.tokens[id], id});
  }
  return PrefixTrie(std::move(pieces));
}

void set_character(CharacterTable& characters, std::string_view bytes, std::uint32_t symbol) {
  if (bytes.empty()) return;
  const auto [value, size] = code_point_at(bytes, 0);
  if (size == bytes.size()) characters.set(value, symbol);
}

}  // namespace

struct SentencePieceBpe::State : Workspace {
  explicit State(std::size_t num_ranks) : queue(num_ranks) {}

  RankQueue queue;
  std::vector<std::uint32_t> symbols;
  std::vector<std::uint32_t> begins;  // in the piece
  std::vector<std::uint32_t> next;
  std::vector<std::uint32_t> previous;
  std::vector<PairRanks::Found> pairs;  // of a symbol and the next
};

SentencePieceBpe::SentencePieceBpe(CharacterBpeVocabulary vocabulary, const CharacterMerges& merges)
    : vocabulary_(checked(std::move(vocabulary))),
      first_unsplit_(
          static_cast<std::uint32_t>(vocabulary_.tokens.size() + merges.characters.size() + 1)),
      characters_(first_unsplit_ - 1),
      unsplit_(unsplit_trie(vocabulary_)),
      pairs_(merges.merges) {
  for (std::size_t i = 0; i < merges.characters.size(); ++i) {
    set_character(characters_, merges.characters[i],
                  static_cast<std::uint32_t>(vocabulary_.tokens.size() + i));
  }
  for (const std::uint32_t id : vocabulary_.merged_ids) {
    set_character(characters_, vocabulary_.tokens[id], id);
  }
  for (const RankedMerge& merge : merges.merges) {
    num_ranks_ = std::max<std::size_t>(num_ranks_, merge.rank + std::size_t{1});
  }
}

std::unique_ptr<Workspace> SentencePieceBpe::make_workspace() const {
  return std::make_unique<State>(num_ranks_);
}

void SentencePieceBpe::encode(std::string_view piece, Workspace* workspace, TokenSink& sink) const {
  State& state = static_cast<State&>(*workspace);
  split(piece, state);
  if (state.symbols.size() <= max_few) {
    merge_few(state);
  } else {
    merge_many(state);
  }
  add_symbols(piece, state, sink);
  if (state.symbols.capacity() > max_kept_symbols) state = State(num_ranks_);
}

void SentencePieceBpe::split(std::string_view piece, State& state) const {
  state.symbols.clear();
  state.begins.clear();
  for (std::size_t pos = 0; pos < piece.size();) {
    state.begins.push_back(static_cast<std::uint32_t>(pos));
    if (const KeyMatch unsplit = longest_key(unsplit_, piece, pos); unsplit.size > 0) {
      state.symbols.push_back(first_unsplit_ + unsplit.id);
      pos += unsplit.size;
      continue;
    }
    const auto [value, size] = code_point_at(piece, pos);
    state.symbols.push_back(characters_.at(value));
    pos += size;
  }
}

void SentencePieceBpe::merge_few(State& state) const {
  auto& symbols = state.symbols;
  auto& begins = state.begins;
  auto& pairs = state.pairs;
  const auto earlier = [](const auto& a, const auto& b) { return a.rank < b.rank; };
  pairs.clear();
  for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
    pairs.push_back(pairs_.find(symbols[i], symbols[i + 1]));
  }
  while (!pairs.empty()) {
    const auto first = std::min_element(pairs.begin(), pairs.end(), earlier);
    if (first->rank == no_rank) break;
    const auto at = first - pairs.begin();
    const auto index = static_cast<std::size_t>(at);
    symbols[index] = first->result;
    symbols.erase(symbols.begin() + at + 1);
    begins.erase(begins.begin() + at + 1);
    pairs.erase(first);
    if (index < pairs.size()) pairs[index] = pairs_.find(symbols[index], symbols[index + 1]);
    if (index > 0) pairs[index - 1] = pairs_.find(symbols[index - 1], symbols[index]);
  }
}

void SentencePieceBpe::push_pair(std::uint32_t left, State& state) const {
  const auto found = pairs_.find(state.symbols[left], state.symbols[state.next[left]]);
  if (found.rank != no_rank) state.queue.push(found.rank, left);
}

void SentencePieceBpe::merge_many(State& state) const {
  auto& [queue, symbols, begins, next, previous, pairs] = state;
  const auto size = static_cast<std::uint32_t>(symbols.size());
  next.resize(size);
  previous.resize(size);
  for (std::uint32_t i = 0; i < size; ++i) {
    next[i] = i + 1 < size ? i + 1 : no_position;
    previous[i] = i > 0 ? i - 1 : no_position;
  }
  for (std::uint32_t i = 0; i + 1 < size; ++i) push_pair(i, state);
  while (!queue.empty()) {
    const auto [rank, at] = queue.pop();
    const std::uint32_t right = next[at];
    // entries go stale when a neighbor merged first
    if (symbols[at] == merged_away || right == no_position) continue;
    const auto found = pairs_.find(symbols[at], symbols[right]);
    if (found.rank != rank) continue;
    symbols[at] = found.result;
    symbols[right] = merged_away;
    next[at] = next[right];
    if (next[at] != no_position) {
      previous[next[at]] = at;
      push_pair(at, state);
    }
    if (previous[at] != no_position) push_pair(previous[at], state);
  }
  queue.reset();
  std::size_t kept = 0;
  for (std::uint32_t i = 0; i < size; ++i) {
    if (symbols[i] == merged_away) continue;
    symbols[kept] = symbols[i];
    begins[kept++] = begins[i];
  }
  symbols.resize(kept);
  begins.resize(kept);
}

void SentencePieceBpe::add_symbols(std::string_view piece, State& state, TokenSink& sink) const {
  bool is_behind_unknown = false;
  for (std::size_t i = 0; i < state.symbols.size(); ++i) {
    const std::size_t begin = state.begins[i];
    const std::size_t end = i + 1 < state.begins.size() ? state.begins[i + 1] : piece.size();
    const std::uint32_t symbol = state.symbols[i];
    const bool is_unsplit = symbol >= first_unsplit_;
    const bool is_unknown = !is_unsplit && symbol >= vocabulary_.tokens.size();
    if (is_unknown) {
      add_unknown(piece.substr(begin, end - begin), is_behind_unknown, sink);
    } else {
      sink.add(is_unsplit ? symbol - first_unsplit_ : symbol, end - begin);
    }
    is_behind_unknown = is_unknown;
  }
}

void SentencePieceBpe::add_unknown(std::string_view text, bool is_behind_unknown,
                                   TokenSink& sink) const {
  if (!vocabulary_.byte_ids.empty()) {
    for (const char byte : text) {
      sink.add(vocabulary_.byte_ids[static_cast<unsigned char>(byte)], 1);
    }
    return;
  }
  if (!is_behind_unknown || !vocabulary_.fuse_unknown) {
    sink.add(vocabulary_.unknown_id, text.size());
  } else if (sink.wants_sizes) {
    sink.sizes.back() += static_cast<std::uint32_t>(text.size());
  }
}

std::size_t MetaspaceCutter::split(std::string_view text, std::size_t start,
                                   std::vector<ByteRange>& pieces) const {
  for (std::size_t count = 0; count < batch_size && start < text.size(); ++count) {
    const std::size_t end = part_end(text, start, cuts_);
    pieces.push_back({start, end});
    start = end;
  }
  return start;
}

}  // namespace weldlm
