// Every kind of tokenizer on hostile input: random bytes, broken UTF-8, a megabyte without a
// boundary. Nothing crashes or leaves the text, and time stays in proportion to the size.
#include <algorithm>
#include <ctime>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "charsmap_blob.hpp"
#include "check.hpp"
#include "tokenizer/bert.hpp"
#include "tokenizer/bpe.hpp"
#include "tokenizer/decoder.hpp"
#include "tokenizer/encoder.hpp"
#include "tokenizer/sentencepiece_bpe.hpp"
#include "tokenizer/spiece_normalizer.hpp"
#include "tokenizer/text_rewriters.hpp"
#include "tokenizer/unicode_normalizer.hpp"
#include "tokenizer/unigram.hpp"
#include "tokenizer/wordpiece.hpp"

namespace weldlm::test {
namespace {

using Ids = std::vector<std::uint32_t>;
using Steps = std::vector<std::shared_ptr<const Normalizer>>;

const std::string space(metaspace);

// Ids behind the others that stand for nothing but added tokens.
constexpr std::uint32_t num_added = 5;

// The 256 bytes, then what merges, spells and fills.
std::vector<std::string> all_tokens() {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  for (const std::string& token :
       {std::string("aa"), std::string("ab"), std::string("aaaa"), std::string("abab"), space,
        space + "a", space + space, space + "ab", std::string("##a"), std::string("##b"),
        std::string("[UNK]"), std::string("\xCC\x81"), std::string("==")}) {
    tokens.push_back(token);
  }
  tokens.resize(tokens.size() + num_added);
  return tokens;
}

std::uint32_t id_of(std::string_view token) { return *vocabulary_of(all_tokens())->id(token); }

Ids ids_between(std::uint32_t begin, std::uint32_t end) {
  Ids ids;
  for (std::uint32_t id = begin; id < end; ++id) ids.push_back(id);
  return ids;
}

std::uint32_t first_added() { return static_cast<std::uint32_t>(all_tokens().size()) - num_added; }

Ids matched_ids() { return ids_between(256, first_added()); }

Ids byte_ids() { return ids_between(0, 256); }

std::shared_ptr<const Model> ranked_bpe() {
  const auto vocabulary = vocabulary_of(all_tokens());
  return std::make_shared<ByteBpe>(vocabulary, merges_of_ranks(*vocabulary),
                                   BpeOptions{.ignore_merges = true, .shares_ranks = true});
}

// BPE in whose vocabulary most bytes are missing.
std::shared_ptr<const Model> dropping_bpe() {
  const auto vocabulary = vocabulary_of({"a", "b", "aa", "ab", "aaaa"});
  return std::make_shared<ByteBpe>(vocabulary, merges_of_ranks(*vocabulary),
                                   BpeOptions{.drops_bytes = true});
}

std::shared_ptr<const Model> wordpiece(std::size_t max_chars) {
  const Vocabulary vocabulary(all_tokens());
  return std::make_shared<WordPiece>(
      vocabulary, WordPieceOptions{vocabulary.size(), id_of("[UNK]"), "##", max_chars});
}

std::shared_ptr<const Model> unigram(UnigramRules rules, bool has_bytes) {
  const std::vector<std::string> tokens = all_tokens();
  std::vector<double> scores;
  for (const std::string& token : tokens) {
    scores.push_back(-8.0 / static_cast<double>(token.size() + 1));
  }
  return std::make_shared<Unigram>(UnigramVocabulary{tokens, scores, matched_ids(), id_of("[UNK]"),
                                                     -30, has_bytes ? byte_ids() : Ids{}, rules});
}

std::shared_ptr<const Model> spiece_bpe(bool has_bytes) {
  std::vector<float> scores;
  const Ids merged = matched_ids();
  for (const std::string& token : all_tokens()) scores.push_back(static_cast<float>(token.size()));
  CharacterBpeVocabulary vocabulary{all_tokens(),   merged, {id_of("==")},
                                    id_of("[UNK]"), true,   has_bytes ? byte_ids() : Ids{}};
  return std::make_shared<SentencePieceBpe>(
      std::move(vocabulary), merges_by_score(all_tokens(), merged, scores));
}

std::shared_ptr<const Normalizer> sequence(Steps steps) {
  return std::make_shared<NormalizerSequence>(std::move(steps));
}

std::shared_ptr<const Normalizer> every_rewriter() {
  return sequence({std::make_shared<Nmt>(),
                   std::make_shared<Precompiled>(std::make_shared<Charsmap>(small_blob())),
                   std::make_shared<Replace>(" ", 2, space), std::make_shared<Strip>(true, true),
                   std::make_shared<StripRuns>("b", true, true), std::make_shared<Prepend>("a")});
}

std::shared_ptr<const Normalizer> every_form() {
  Steps steps;
  for (const std::string_view form : {"NFC", "NFD", "NFKC", "NFKD"}) {
    steps.push_back(std::make_shared<UnicodeNormalizer>(find_form(form)));
  }
  steps.push_back(std::make_shared<Lowercase>());
  steps.push_back(std::make_shared<StripAccents>());
  return sequence(std::move(steps));
}

// Tokens with every flag, the first two of them special.
std::vector<AddedToken> every_added_token() {
  const std::uint32_t id = first_added();
  return {{"<|a|>", id, true, false, false, false, false},
          {"<s>", id + 1, true, true, false, true, true},
          {"ab a", id + 2, false, false, true, false, false},
          {" =", id + 3, false, true, false, true, false},
          {"\xCC\x81\xCC\x81", id + 4, false, false, false, true, true}};
}

struct Named {
  std::string name;
  std::shared_ptr<const Encoder> encoder;
};

Named named_encoder(const char* name, EncoderParts parts) {
  return {name, std::make_shared<Encoder>(std::move(parts))};
}

std::vector<Named> byte_level_encoders(std::vector<const char*> patterns) {
  std::vector<Named> encoders;
  for (const char* name : patterns) {
    const auto pattern = std::make_shared<PatternPretokenizer>(find_pattern(name));
    encoders.push_back(
        named_encoder(name, {every_added_token(), nullptr, nullptr, pattern, ranked_bpe()}));
  }
  return encoders;
}

std::vector<Named> other_encoders() {
  const auto bert =
      std::make_shared<BertNormalizer>(BertNormalizerOptions{true, true, true, true});
  const auto words = std::make_shared<BertPretokenizer>();
  const auto spiece = std::make_shared<SpieceNormalizer>(std::make_shared<Charsmap>(small_blob()),
                                                         SpaceOptions{true, true, true, false},
                                                         std::vector<std::string>{"=="});
  const auto metaspace = std::make_shared<Metaspace>(space, PrependScheme::first);
  const auto runs = std::make_shared<MetaspaceCutter>(MetaspaceCuts::before_runs);
  const auto added = every_added_token();
  std::vector<Named> encoders;
  const auto add = [&](const char* name, EncoderParts parts) {
    encoders.push_back(named_encoder(name, std::move(parts)));
  };
  add("bytes without a pattern", {added, nullptr, nullptr, nullptr, ranked_bpe()});
  add("missing bytes", {added, every_form(), nullptr, nullptr, dropping_bpe()});
  add("wordpiece", {added, bert, nullptr, words, wordpiece(100)});
  add("wordpiece of long words", {added, bert, nullptr, words, wordpiece(1u << 30)});
  add("unigram", {added, spiece, nullptr, runs, unigram(UnigramRules::sentencepiece, true)});
  add("unigram of tokenizers", {added, every_rewriter(), metaspace, nullptr,
                                unigram(UnigramRules::tokenizers, false)});
  add("sentencepiece", {added, spiece, nullptr, runs, spiece_bpe(true)});
  add("sentencepiece of tokenizers", {added, every_form(),
                                      std::make_shared<MetaspaceWords>(space),
                                      std::make_shared<DelimiterCutter>(space), spiece_bpe(false)});
  add("white space", {added, nullptr, nullptr, std::make_shared<WhitespaceSplit>(), ranked_bpe()});
  return encoders;
}

std::vector<Named> all_encoders() {
  std::vector<Named> encoders =
      byte_level_encoders({"gpt2", "cl100k", "o200k", "llama3", "qwen2", "qwen3_5", "tekken",
                           "smollm", "digits", "single_digits"});
  for (Named& named : other_encoders()) encoders.push_back(std::move(named));
  return encoders;
}

std::string random_bytes(std::mt19937& random, std::size_t most) {
  std::string text;
  for (std::size_t size = random() % (most + 1); size > 0; --size) {
    text.push_back(static_cast<char>(random() % 256));
  }
  return text;
}

// What holds of the ids of any text: they exist, in any way of asking they are the same, their
// places are in the text and in order.
void check_text(const Named& named, std::string_view text) {
  const SpecialTokenPolicy policy{{first_added(), first_added() + 1}, {}};
  const Ids ids = named.encoder->encode(text, policy);
  for (const std::uint32_t id : ids) check(id < all_tokens().size(), named.name);
  const LocatedIds located = named.encoder->encode_located(text, policy);
  check(located.ids == ids, named.name + ": ids do not depend on the question");
  std::size_t last = 0;
  for (const auto& [begin, end] : located.ranges) {
    check(begin <= end && end <= text.size(), named.name + ": places are in the text");
    check(last <= end, named.name + ": places are in order");
    last = end;
  }
}

void any_bytes_are_encoded() {
  constexpr std::string_view pieces[] = {"<|a|>", "<s>", "ab a", " =", "\xCC\x81", "  ", "==",
                                         "\xE2\x96\x81"};
  std::mt19937 random(41);
  for (const Named& named : all_encoders()) {
    for (int round = 0; round < 600; ++round) {
      const std::string text = random_text(random, any_bytes, 12) + random_bytes(random, 12) +
                               random_text(random, pieces, 6) + random_bytes(random, 3);
      // a buffer of exactly this size, so that a byte too far is seen
      const std::vector<char> buffer(text.begin(), text.end());
      check_text(named, {buffer.data(), buffer.size()});
    }
  }
}

void segments_of_any_bytes_are_encoded() {
  std::mt19937 random(42);
  const std::uint32_t special_ids[] = {first_added(), first_added() + 1};
  for (const Named& named : all_encoders()) {
    for (int round = 0; round < 200; ++round) {
      const std::string forged = random_bytes(random, 12) + " <s> <|a|>";
      const std::string other = "<|a|>" + random_text(random, any_bytes, 8);
      const bool is_trusted = random() % 2 == 0;
      const Ids ids = named.encoder->encode_segments(
          std::vector<TextSegment>{{forged, false}, {other, is_trusted}, {"", false}});
      const auto found = std::find_first_of(ids.begin(), ids.end(), special_ids, special_ids + 2);
      check(is_trusted || found == ids.end(), named.name + ": special tokens need trust");
      check(!is_trusted || found != ids.end(), named.name + ": and take effect with it");
      for (const std::uint32_t id : ids) check(id < all_tokens().size(), named.name);
    }
  }
}

std::string repeated(std::string_view part, std::size_t size) {
  std::string text;
  while (text.size() < size) text += part;
  return text;
}

// Texts without a boundary, of one character or of few in turn.
std::vector<std::string> long_texts() {
  constexpr std::size_t size = 100'000;
  std::vector<std::string> texts;
  for (const std::string_view part :
       {"\n", "=", "1", "'", "\xCC\x81", "\xCC\x81\xCC\xA3", "\xFF", "\xE2", "a ", "<|a|",
        "<s> ", " <s", "\xE2\x96\x81", "aA", "\r\n ", "\xE4\xB8\xAD", "\xEA\xB0\x80\xCC\x81",
        "\xF0\x9F\x91\xA8\xE2\x80\x8D"}) {
    texts.push_back(repeated(part, size));
  }
  texts.push_back(std::string(size, ' ') + "<s>");
  std::mt19937 random(43);
  std::string any;
  while (any.size() < size) any += random_bytes(random, 1000);
  texts.push_back(any);
  return texts;
}

// Far more than a time in proportion to the size, far less than one that grows with its square.
void check_seconds(const std::string& name, const std::string& text, double most,
                   const std::function<void()>& action) {
  const std::clock_t begin = std::clock();
  action();
  const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  check(seconds < most, name + " took " + std::to_string(seconds) + " s for " + text.substr(0, 6));
}

void long_texts_take_bounded_time() {
  const SpecialTokenPolicy policy{{first_added(), first_added() + 1}, {}};
  // the scanners that look furthest, and every model
  std::vector<Named> encoders = byte_level_encoders({"gpt2", "cl100k", "o200k", "smollm"});
  for (Named& named : other_encoders()) encoders.push_back(std::move(named));
  const std::vector<std::string> texts = long_texts();
  for (const Named& named : encoders) {
    for (const std::string& text : texts) {
      check_seconds(named.name, text, 5, [&] { named.encoder->encode(text, policy); });
    }
    for (const std::string_view part : {"a", " ", "ab"}) {
      const std::string text = repeated(part, 1'000'000);
      check_seconds(named.name, text, 20, [&] { named.encoder->encode(text, policy); });
    }
  }
}

void long_segments_take_bounded_time() {
  for (const Named& named : other_encoders()) {
    for (const std::string& text : long_texts()) {
      const std::vector<TextSegment> segments = {{text, false}, {text, true}};
      check_seconds(named.name, text, 10, [&] { named.encoder->encode_segments(segments); });
    }
  }
}

void any_ids_are_decoded() {
  const std::vector<std::string> tokens = all_tokens();
  std::vector<std::string> first = tokens;
  first[id_of(space)] = "";
  const Ids silent = {0, id_of("[UNK]")};
  std::mt19937 random(44);
  for (const bool first_until_text : {false, true}) {
    const Decoder decoder(tokens, first, silent, first_until_text);
    for (int round = 0; round < 3000; ++round) {
      std::vector<std::int64_t> ids;
      std::string expected;
      bool is_first = true;
      for (std::size_t size = random() % 20; size > 0; --size) {
        const auto id = static_cast<std::int64_t>(random() % tokens.size());
        ids.push_back(id);
        expected += decoder.text(id, is_first);
        is_first = is_first && decoder.is_silent(id);
      }
      check(decoder.decode(ids) == expected, "a text is what its ids add");
      const std::int64_t outside[] = {-1, static_cast<std::int64_t>(tokens.size()),
                                      std::numeric_limits<std::int64_t>::min(),
                                      std::numeric_limits<std::int64_t>::max()};
      ids.push_back(outside[random() % 4]);
      const auto decode = [&] { static_cast<void>(decoder.decode(ids)); };
      check(holds(refusal(decode), "is not in the vocabulary"), "an id out of range");
    }
  }
}

}  // namespace
}  // namespace weldlm::test

int main() {
  weldlm::test::any_bytes_are_encoded();
  weldlm::test::segments_of_any_bytes_are_encoded();
  weldlm::test::any_ids_are_decoded();
  weldlm::test::long_texts_take_bounded_time();
  weldlm::test::long_segments_take_bounded_time();
}
