// WordPiece: the longest tokens, unknown words, limits; the trie below it; the trainer.
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "check.hpp"
#include "tokenizer/bert.hpp"
#include "tokenizer/wordpiece.hpp"
#include "tokenizer/wordpiece_trainer.hpp"

namespace weldlm::test {
namespace {

using Ids = std::vector<std::uint32_t>;

const std::vector<std::string> small_tokens = {
    "[UNK]",      "a", "b", "ab", "##a",          "##ab",         "##b",           "##",
    "##\xC3\xA9", "!", "",  "##", "\xE4\xB8\xAD", "##ba\xC3\xA9", "##\xE4\xB8\xAD"};

TokenSink encoded(const WordPiece& model, std::string_view piece) {
  TokenSink sink;
  sink.wants_sizes = true;
  model.encode(piece, nullptr, sink);
  return sink;
}

std::size_t num_chars(std::string_view text) {
  std::size_t count = 0;
  for (const char byte : text) count += (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
  return count;
}

// Looks for ever shorter tokens, as the definition says.
Ids spelled_by_definition(const std::vector<std::string>& tokens, const std::string& piece,
                          const std::string& prefix, std::size_t max_chars) {
  std::map<std::string, std::uint32_t> ids;
  for (std::uint32_t id = 0; id < tokens.size(); ++id) ids.emplace(tokens[id], id);
  Ids spelled;
  for (std::size_t begin = 0; begin < piece.size();) {
    std::size_t size = piece.size() - begin;
    const std::string before = begin == 0 ? "" : prefix;
    while (size > 0 && !ids.contains(before + piece.substr(begin, size))) --size;
    if (size == 0) return {0};
    spelled.push_back(ids.at(before + piece.substr(begin, size)));
    begin += size;
  }
  return num_chars(piece) > max_chars ? Ids{0} : spelled;
}

void spells_by_definition() {
  constexpr std::string_view alphabet[] = {"a", "b", "#", "##", "!", "\xC3\xA9", "\xE4\xB8\xAD",
                                           "c"};
  const Vocabulary vocabulary(small_tokens);
  std::mt19937 random(2);
  for (const std::string prefix : {"##", "", "#", "@"}) {
    for (const std::size_t max_chars : {0u, 4u, 100u}) {
      const WordPiece model(vocabulary, {small_tokens.size(), 0, prefix, max_chars});
      for (int round = 0; round < 3000; ++round) {
        const std::string piece = random_text(random, alphabet, 8);
        if (piece.empty()) continue;
        const TokenSink sink = encoded(model, piece);
        check(sink.ids == spelled_by_definition(small_tokens, piece, prefix, max_chars), piece);
        std::size_t size = 0;
        for (const std::uint32_t one : sink.sizes) size += one;
        check(size == piece.size(), "sizes add up to the piece");
      }
    }
  }
}

void unknown_words_take_back_what_was_added() {
  const WordPiece model(Vocabulary(small_tokens), {small_tokens.size(), 0, "##", 100});
  TokenSink sink;
  sink.wants_sizes = true;
  model.encode("ab", nullptr, sink);
  model.encode("aabx", nullptr, sink);

  check(sink.ids == Ids({3, 0}), "an unknown word is one token");
  check(sink.sizes == Ids({2, 4}), "which covers all of it");
}

void stays_inside_any_bytes() {
  const WordPiece model(Vocabulary(small_tokens), {small_tokens.size(), 0, "##", 5});
  std::mt19937 random(3);
  for (int round = 0; round < 20000; ++round) {
    const std::string text = random_text(random, any_bytes, 8);
    if (text.empty()) continue;
    const std::vector<char> buffer(text.begin(), text.end());
    check(!encoded(model, {buffer.data(), buffer.size()}).ids.empty(), "a piece has tokens");
  }
}

void trie_holds_every_key() {
  std::mt19937 random(4);
  std::map<std::string, std::uint32_t> ids;
  while (ids.size() < 5000) {
    std::string key;
    for (std::size_t size = random() % 6 + 1; size > 0; --size) {
      key.push_back(static_cast<char>(random() % 256));
    }
    ids.emplace(key, static_cast<std::uint32_t>(ids.size()));
  }
  std::vector<PrefixTrie::Entry> entries;
  for (const auto& [key, id] : ids) entries.push_back({key, id});

  const PrefixTrie trie(entries);

  for (const auto& [key, id] : ids) {
    check(trie.find(key) != PrefixTrie::nothing && trie.id(trie.find(key)) == id, "its own id");
    const std::uint32_t node = trie.find(key + "x");
    const bool is_key = ids.contains(key + "x");
    check(node == PrefixTrie::nothing || (trie.id(node) != PrefixTrie::nothing) == is_key,
          "no id of another key");
  }
}

void refuses_what_is_not_there() {
  const Vocabulary vocabulary(small_tokens);
  const auto make = [&](std::size_t num_tokens, std::uint32_t unk_id) {
    return refusal([&] { WordPiece(vocabulary, {num_tokens, unk_id, "##", 100}); });
  };

  check(holds(make(15, 15), "unk_id is 15 of 15 tokens"), "unk_id is a token");
  check(holds(make(16, 0), "unk_id is 0 of 16 tokens in a vocabulary of 15"), "tokens are there");
}

void training_does_not_depend_on_threads() {
  const std::vector<std::string_view> texts = {"the theme of the thesis", "there, there!", "",
                                               "\xC3\xA9t\xC3\xA9 \xE4\xB8\xAD\xE6\x96\x87"};
  const auto train = [&](std::size_t num_threads) {
    WordPieceTrainer trainer(
        std::make_shared<BertNormalizer>(BertNormalizerOptions{true, true, true, true}),
        std::make_shared<BertPretokenizer>());
    trainer.feed(texts, num_threads);
    return trainer.train({60, {"[UNK]"}, 1, std::nullopt, U"q", "##"}, [](std::size_t) {});
  };

  const std::vector<std::string> tokens = train(1);

  check(tokens == train(4), "one thread and four learn the same");
  check(tokens[0] == "[UNK]" && tokens[1] == "!" && tokens[2] == ",", "the alphabet in order");
  check(std::find(tokens.begin(), tokens.end(), "the") != tokens.end(), "a frequent word");
}

}  // namespace
}  // namespace weldlm::test

int main() {
  weldlm::test::spells_by_definition();
  weldlm::test::unknown_words_take_back_what_was_added();
  weldlm::test::stays_inside_any_bytes();
  weldlm::test::trie_holds_every_key();
  weldlm::test::refuses_what_is_not_there();
  weldlm::test::training_does_not_depend_on_threads();
}
