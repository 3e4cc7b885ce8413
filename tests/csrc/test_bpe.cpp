// Merging one piece: both ways against the definition, and the queue of the long way.
#include <array>
#include <cstdint>
#include <functional>
#include <queue>
#include <string>
#include <utility>
#include <vector>

#include "check.hpp"
#include "tokenizer/bpe.hpp"
#include "tokenizer/word_cache.hpp"

namespace weldlm::test {
namespace {

using Ids = std::vector<std::uint32_t>;

std::array<std::uint32_t, 256> byte_ids(const TrainedBpe& trained) {
  std::array<std::uint32_t, 256> ids{};
  for (std::size_t id = 0; id < trained.tokens.size(); ++id) {
    if (trained.tokens[id].size() == 1) {
      ids[static_cast<unsigned char>(trained.tokens[id][0])] = static_cast<std::uint32_t>(id);
    }
  }
  return ids;
}

// The definition: look for the lowest rank, the leftmost of equals, until there is none.
Ids merge_by_definition(const TrainedBpe& trained, const std::string& piece) {
  Ids ids;
  const auto first_ids = byte_ids(trained);
  for (const char byte : piece) ids.push_back(first_ids[static_cast<unsigned char>(byte)]);
  for (std::size_t rank = 0; rank < trained.merges.size();) {
    const Merge& merge = trained.merges[rank];
    std::size_t at = 0;
    while (at + 1 < ids.size() && !(ids[at] == merge.left && ids[at + 1] == merge.right)) ++at;
    if (at + 1 >= ids.size()) {
      ++rank;
      continue;
    }
    ids[at] = merge.result;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    rank = 0;
  }
  return ids;
}

void encodes_by_definition(const TrainedBpe& trained) {
  constexpr std::string_view alphabet[] = {"a", "b", "c", "d", "t", "h", "e", "the", "aaaa"};
  const ByteBpe bpe(vocabulary_of(trained.tokens), trained.merges);
  const auto workspace = bpe.make_workspace();
  std::mt19937 random(2);
  for (int round = 0; round < 2000; ++round) {
    const std::string piece = random_text(random, alphabet, 120);
    TokenSink sink;
    bpe.encode(piece, workspace.get(), sink);
    check(sink.ids == merge_by_definition(trained, piece), piece);
  }
}

// The definition of tiktoken: of all neighbors whose bytes together are a token, those whose token
// has the lowest id merge, the leftmost of equals.
Ids merge_by_ranks(const Vocabulary& vocabulary, const std::string& piece) {
  if (const auto whole = vocabulary.id(piece)) return {*whole};
  std::vector<std::string> parts;
  for (const char byte : piece) parts.emplace_back(1, byte);
  while (true) {
    std::size_t best = parts.size();
    std::uint32_t lowest = no_rank;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto id = vocabulary.id(parts[i] + parts[i + 1]);
      if (!id || *id >= lowest) continue;
      lowest = *id;
      best = i;
    }
    if (best == parts.size()) break;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
  Ids ids;
  for (const std::string& part : parts) ids.push_back(*vocabulary.id(part));
  return ids;
}

// The bytes, a gap, and tokens that overlap in many ways.
std::vector<std::string> ranked_tokens() {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  for (const std::string_view token :
       {"aa", "", "ab", "aaa", "bc", "abc", "ba", "bab", "cabd", "aaaa", "", "abcabc", "bcabd"}) {
    tokens.emplace_back(token);
  }
  return tokens;
}

void encodes_by_ranks() {
  constexpr std::string_view alphabet[] = {"a", "b", "c", "d", "aa", "abc"};
  const auto vocabulary = vocabulary_of(ranked_tokens());
  const ByteBpe bpe(vocabulary, merges_of_ranks(*vocabulary), {true, true});
  const auto workspace = bpe.make_workspace();
  std::mt19937 random(5);
  for (int round = 0; round < 4000; ++round) {
    const std::string piece = random_text(random, alphabet, 70);
    if (piece.empty()) continue;
    TokenSink sink;
    bpe.encode(piece, workspace.get(), sink);
    check(sink.ids == merge_by_ranks(*vocabulary, piece), piece);
  }
}

void takes_whole_pieces_where_asked_to() {
  TrainedBpe trained = small_vocabulary();
  const auto unreachable = static_cast<std::uint32_t>(trained.tokens.size());
  trained.tokens.emplace_back("xyz");
  const auto ids_of = [&](std::string_view piece, BpeOptions options) {
    const ByteBpe bpe(vocabulary_of(trained.tokens), trained.merges, options);
    TokenSink sink;
    bpe.encode(piece, bpe.make_workspace().get(), sink);
    return sink.ids;
  };

  check(ids_of("xyz", {.ignore_merges = true}) == Ids{unreachable}, "the piece is a token");
  check(ids_of("xyz", {}).size() == 3, "no merge leads to it");
  check(ids_of("xyzx", {.ignore_merges = true}).size() == 4, "the piece is no token");
}

void refuses_ranks_of_long_tokens() {
  std::vector<std::string> tokens = ranked_tokens();
  tokens.emplace_back(max_ranked_bytes + 1, 'a');
  const auto read = [&] { merges_of_ranks(*vocabulary_of(tokens)); };

  check(holds(refusal(read), "id 269 has 4097 bytes, expected at most 4096"), refusal(read));
}

// Two routes to "abc", the later one of which makes a pair of a lower rank.
TrainedBpe vocabulary_with_two_routes() {
  TrainedBpe trained = small_vocabulary();
  trained.merges.clear();
  const auto ids = byte_ids(trained);
  const auto add = [&](std::uint32_t left, std::uint32_t right) {
    const std::string token = trained.tokens[left] + trained.tokens[right];
    auto id = static_cast<std::uint32_t>(trained.tokens.size());
    for (std::uint32_t i = 0; i < id; ++i) {
      if (trained.tokens[i] == token) id = i;
    }
    if (id == trained.tokens.size()) trained.tokens.push_back(token);
    trained.merges.push_back({left, right, id});
    return id;
  };
  const auto ab = add(ids['a'], ids['b']);
  const auto abc = add(ab, ids['c']);
  add(abc, abc);
  add(abc, ids['d']);
  const auto bc = add(ids['b'], ids['c']);
  add(ids['a'], bc);
  add(bc, bc);
  return trained;
}

void queue_gives_the_smallest_first() {
  RankQueue queue(50);
  std::priority_queue<std::pair<std::uint32_t, std::uint32_t>,
                      std::vector<std::pair<std::uint32_t, std::uint32_t>>, std::greater<>>
      expected;
  std::mt19937 random(3);
  for (std::uint32_t step = 0; step < 100000; ++step) {
    const auto rank = static_cast<std::uint32_t>(random() % 50);
    if (expected.empty() || random() % 2 == 0) {
      // one position a step: an entry is queued once
      const std::uint32_t position = random() % 4 == 0 ? 200000 - step : step;
      queue.push(rank, position);
      expected.emplace(rank, position);
      continue;
    }
    const auto [next_rank, next_position] = queue.pop();
    check(std::pair(next_rank, next_position) == expected.top(), "the order of a heap");
    expected.pop();
    if (expected.empty()) queue.reset();
  }
}

void cache_gives_what_was_put() {
  WordCache cache;
  constexpr std::string_view alphabet[] = {"a", "b", "\xC3", std::string_view("\0", 1)};
  std::mt19937 random(4);
  for (int round = 0; round < 200000; ++round) {
    const std::string word = random_text(random, alphabet, 15);
    if (!WordCache::accepts(word)) continue;
    const auto hash = static_cast<std::uint32_t>(std::hash<std::string>{}(word));
    const Ids expected = {hash, static_cast<std::uint32_t>(word.size())};
    Ids found;
    if (cache.append_ids(word, found)) {
      check(found == expected, "the ids of this very word");
    } else {
      cache.insert(word, expected);
    }
  }
}

}  // namespace
}  // namespace weldlm::test

int main() {
  weldlm::test::encodes_by_definition(weldlm::test::small_vocabulary());
  weldlm::test::encodes_by_definition(weldlm::test::vocabulary_with_two_routes());
  weldlm::test::encodes_by_ranks();
  weldlm::test::takes_whole_pieces_where_asked_to();
  weldlm::test::refuses_ranks_of_long_tokens();
  weldlm::test::queue_gives_the_smallest_first();
  weldlm::test::cache_gives_what_was_put();
}
