// The encoder of a byte-level vocabulary and its trainer: round trip, threads, offsets, refusals.
#include <atomic>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "tokenizer/bpe.hpp"
#include "tokenizer/decoder.hpp"
#include "tokenizer/encoder.hpp"
#include "tokenizer/parallel.hpp"
#include "tokenizer/patterns.hpp"
#include "tokenizer/vocabulary.hpp"

namespace weldlm::test {
namespace {

Encoder small_encoder() {
  const TrainedBpe trained = small_vocabulary();
  return Encoder(
      {.added_tokens = {{"<|endoftext|>", 0, true, false}},
       .normalizer = nullptr,
       .rewriter = nullptr,
       .pretokenizer = std::make_shared<PatternPretokenizer>(find_pattern("gpt2")),
       .model = std::make_shared<ByteBpe>(vocabulary_of(trained.tokens), trained.merges)});
}

std::vector<std::int64_t> wide(const std::vector<std::uint32_t>& ids) {
  return {ids.begin(), ids.end()};
}

void decodes_what_it_encoded() {
  const Encoder encoder = small_encoder();
  const Decoder decoder(small_vocabulary().tokens, {}, {});
  std::mt19937 random(6);
  for (int round = 0; round < 3000; ++round) {
    const std::string text = random_text(random, any_bytes, 60) + "<|endoftext|>";
    const auto ids = encoder.encode(text, {{0}, {}});
    check(ids.back() == 0, "the special token is one id");
    check(decoder.decode(wide(ids)) == text, text);
    check(decoder.decode(wide(encoder.encode(text, {}))) == text, text);
  }
}

void long_pieces_take_no_quadratic_time() {
  const Encoder encoder = small_encoder();
  const std::string text(300000, 'a');
  check(encoder.encode(text, {}).size() < text.size() / 4, "runs merge");
}

std::vector<std::string> many_texts() {
  std::mt19937 random(7);
  std::vector<std::string> texts;
  for (int i = 0; i < 300; ++i) texts.push_back(random_text(random, any_bytes, 2000));
  return texts;
}

void ranges_cover_the_text() {
  const Encoder encoder = small_encoder();
  std::mt19937 random(8);
  for (int round = 0; round < 2000; ++round) {
    const std::string text = random_text(random, any_bytes, 60) + "<|endoftext|>";
    const LocatedIds located = encoder.encode_located(text, {{0}, {}});
    check(located.ids == encoder.encode(text, {{0}, {}}), "the ids are those without ranges");
    std::size_t covered = 0;
    for (const auto& [begin, end] : located.ranges) {
      check(begin <= covered && covered <= end && end <= text.size(), "one after the other");
      covered = end;
    }
    check(covered == text.size(), "to the end");
  }
}

void segments_are_one_text_without_forged_tokens() {
  const Encoder encoder = small_encoder();
  const std::vector<TextSegment> split = {{"the th", false}, {"eme<|endoftext|>", true}};
  check(encoder.encode_segments(split) == encoder.encode("the theme<|endoftext|>", {{0}, {}}),
        "pieces cross the border");
  const std::vector<TextSegment> forged = {{"the<|endoftext|>", false}, {"", true}};
  check(encoder.encode_segments(forged) == encoder.encode("the<|endoftext|>", {}),
        "untrusted text holds no special token");
}

void tokens_take_no_white_space_of_other_segments() {
  const TrainedBpe trained = small_vocabulary();
  const Encoder encoder({.added_tokens = {{"<s>", 0, true, true, false, true, true}},
                         .normalizer = nullptr,
                         .rewriter = nullptr,
                         .pretokenizer = nullptr,
                         .model = std::make_shared<ByteBpe>(vocabulary_of(trained.tokens),
                                                            trained.merges)});
  const auto encode = [&](const std::string& text) { return encoder.encode(text, {}); };
  const auto joined = [](std::vector<std::uint32_t> ids, const std::vector<std::uint32_t>& more) {
    ids.push_back(0);
    ids.insert(ids.end(), more.begin(), more.end());
    return ids;
  };
  const std::vector<TextSegment> spaced = {{"a  ", false}, {" <s> ", true}, {" b", false}};
  check(encoder.encode_segments(spaced) == joined(encode("a  "), encode(" b")), "its own spaces");
  const std::vector<TextSegment> forged = {{"a <s>", false}, {" <s>", true}};
  check(encoder.encode_segments(forged) == joined(encode("a <s>"), {}), "and no forged token");
}

void batches_do_not_depend_on_threads() {
  const Encoder encoder = small_encoder();
  const std::vector<std::string> texts = many_texts();
  const std::vector<std::string_view> views(texts.begin(), texts.end());
  const auto one = encoder.encode_batch<std::uint32_t>(views, 1, {});
  const auto four = encoder.encode_batch<std::uint32_t>(views, 4, {});
  const auto narrow = encoder.encode_batch<std::uint16_t>(views, 4, {}, {{1, 2}, {3}});
  check(one.ids == four.ids && one.offsets == four.offsets, "one thread or four");
  check(encoder.encode_batch<std::uint32_t>({}, 4, {}).offsets == std::vector<std::int64_t>{0}, "no texts");
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const std::vector<std::uint32_t> ids(one.ids.begin() + one.offsets[i],
                                         one.ids.begin() + one.offsets[i + 1]);
    check(ids == encoder.encode(texts[i], {}), "a text of the batch as alone");
    std::vector<std::uint32_t> framed{1, 2};
    framed.insert(framed.end(), ids.begin(), ids.end());
    framed.push_back(3);
    const std::vector<std::uint32_t> found(narrow.ids.begin() + narrow.offsets[i],
                                           narrow.ids.begin() + narrow.offsets[i + 1]);
    check(found == framed, "with two bytes an id and ids around it");
  }
}

void threads_may_share_and_clear() {
  const Encoder encoder = small_encoder();
  const auto expected = encoder.encode("abcabc the theme aaaaaaa", {});
  parallel_for(400, 4, [&](std::size_t, std::size_t i) {
    if (i % 7 == 0) encoder.clear_cache();
    check(encoder.encode("abcabc the theme aaaaaaa", {}) == expected, "the same ids");
  });
}

void parallel_loop_visits_each_once_and_throws() {
  std::vector<std::atomic<int>> visits(1000);
  parallel_for(visits.size(), 4, [&](std::size_t, std::size_t i) { ++visits[i]; });
  for (const auto& count : visits) check(count == 1, "each index once");
  const auto fail = [] {
    parallel_for(100, 4, [](std::size_t, std::size_t i) {
      if (i == 50) throw std::invalid_argument("at 50");
    });
  };
  check(refusal(fail) == "at 50", "the exception of a worker");
}

void training_does_not_depend_on_threads() {
  const std::vector<std::string> texts = many_texts();
  const std::vector<std::string_view> views(texts.begin(), texts.end());
  const TrainedBpe one = train(views, 400, 1);
  const TrainedBpe four = train(views, 400, 4);
  check(one.tokens == four.tokens, "tokens");
  check(one.merges == four.merges, "merges");
}

void refuses_what_is_no_vocabulary() {
  const TrainedBpe trained = small_vocabulary();
  const auto without_a_byte = [&] { ByteBpe(vocabulary_of({"a", "b"}), {}); };
  check(holds(refusal(without_a_byte), "no token stands for the byte 0"), "a byte is missing");
  const auto wrong_merge = [&] { ByteBpe(vocabulary_of(trained.tokens), {{10, 11, 12}}); };
  check(holds(refusal(wrong_merge), "merge 0 joins ids 10 and 11"), "a merge is wrong");
  const auto id_out_of_range = [&] { ByteBpe(vocabulary_of(trained.tokens), {{10, 11, 999}}); };
  check(holds(refusal(id_out_of_range), "id 999 is not in the vocabulary"), "an id is wrong");
  const auto negative = [&] { Vocabulary({"a"}).token(-1); };
  check(holds(refusal(negative), "id -1 is not in the vocabulary"), "a negative id");
  const std::vector<std::string_view> text = {"ab ab"};
  const auto too_small = [&] { train(text, 100); };
  check(holds(refusal(too_small), "vocab_size=100, expected at least 257"), "too small");
  check(train(text, 1000).tokens.size() == 259, "as many tokens as the text supports");
}

}  // namespace
}  // namespace weldlm::test

int main() {
  weldlm::test::decodes_what_it_encoded();
  weldlm::test::ranges_cover_the_text();
  weldlm::test::segments_are_one_text_without_forged_tokens();
  weldlm::test::tokens_take_no_white_space_of_other_segments();
  weldlm::test::long_pieces_take_no_quadratic_time();
  weldlm::test::batches_do_not_depend_on_threads();
  weldlm::test::threads_may_share_and_clear();
  weldlm::test::parallel_loop_visits_each_once_and_throws();
  weldlm::test::training_does_not_depend_on_threads();
  weldlm::test::refuses_what_is_no_vocabulary();
}
