// Unigram training: seeds against a count of all substrings, the scores, threads, broken texts.
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "check.hpp"
#include "tokenizer/unigram_em.hpp"
#include "tokenizer/unigram_trainer.hpp"

namespace weldlm::test {
namespace {

constexpr UnigramTrainingOptions small_options{40, 3, 1.0, 16, 1000000, 2, 0.75};

std::vector<ScoredPiece> trained(std::span<const std::string_view> texts,
                                 const UnigramTrainingOptions& options, std::size_t num_threads) {
  UnigramTrainer trainer(nullptr);
  trainer.feed(texts, num_threads);
  return trainer.train(options, num_threads, [](std::size_t) {});
}

// Substrings of two to `most` letters in front of at least two different ends or letters.
std::map<std::string, double> substrings_by_definition(std::span<const SeedWord> words,
                                                       std::size_t most) {
  std::map<std::string, std::set<int>> next;
  std::map<std::string, double> areas;
  for (const auto& [bytes, is_followed, count] : words) {
    for (std::size_t begin = 0; begin < bytes.size(); ++begin) {
      for (std::size_t end = begin + 2; end <= bytes.size() && end - begin <= most; ++end) {
        const std::string text(bytes.substr(begin, end - begin));
        next[text].insert(end < bytes.size() ? bytes[end] : is_followed ? -1 : -2);
        areas[text] += static_cast<double>(count) * static_cast<double>(text.size());
      }
    }
  }
  std::erase_if(areas, [&](const auto& entry) { return next[entry.first].size() < 2; });
  return areas;
}

void seeds_are_substrings_that_branch() {
  constexpr std::string_view letters[] = {"a", "b", "c"};
  std::mt19937 random(5);
  for (int round = 0; round < 300; ++round) {
    std::vector<std::string> texts;
    for (int i = 0; i < 20; ++i) texts.push_back("a" + random_text(random, letters, 8));
    std::vector<SeedWord> words;
    for (const std::string& text : texts) {
      words.push_back({text, random() % 2 == 0, static_cast<std::int64_t>(1 + random() % 5)});
    }
    const std::size_t most = 1 + random() % 6;

    std::map<std::string, double> found;
    for (const ScoredPiece& piece : seed_pieces(words, {U'a', U'b', U'c'}, {most, 1000000})) {
      if (piece.text.size() > 1) found[piece.text] = piece.score;
    }

    check(found == substrings_by_definition(words, most), "the substrings by definition");
  }
}

void seeds_do_not_mix_scripts_or_hold_rare_characters() {
  const std::vector<SeedWord> words = {{"ab\xD0\xB0z", false, 5}, {"ab\xD0\xB0y", true, 5}};

  const auto pieces = seed_pieces(words, {U'a', U'b', U'\u0430'}, {16, 100});

  std::set<std::string> texts;
  for (const ScoredPiece& piece : pieces) texts.insert(piece.text);
  check(texts == std::set<std::string>{"a", "b", "\xD0\xB0"}, "Latin and Cyrillic stay apart");
}

void digamma_is_the_derivative_of_lgamma() {
  for (const double x : {0.5, 1.0, 2.5, 7.0, 100.0, 1e6}) {
    const double step = 1e-4 * x;
    const double slope = (std::lgamma(x + step) - std::lgamma(x - step)) / (2 * step);
    check(std::abs(digamma(x) - slope) < 1e-6, std::to_string(x));
  }
}

void training_does_not_depend_on_threads() {
  std::vector<std::string> texts;
  constexpr std::string_view parts[] = {"the", "me", "sis", "\xE2\x96\x81", "\xC3\xA9", "re", "a"};
  std::mt19937 random(6);
  for (int i = 0; i < 3000; ++i) texts.push_back(random_text(random, parts, 12));
  const std::vector<std::string_view> views(texts.begin(), texts.end());

  const auto alone = trained(views, small_options, 1);

  for (const std::size_t num_threads : {2u, 3u, 8u}) {
    const auto together = trained(views, small_options, num_threads);
    check(alone.size() == 37 && together.size() == alone.size(), "as many pieces as asked for");
    for (std::size_t i = 0; i < alone.size(); ++i) {
      check(alone[i].text == together[i].text && alone[i].score == together[i].score, "equal");
    }
  }
}

void stays_inside_any_bytes() {
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    std::vector<std::string> texts;
    for (int i = 0; i < 30; ++i) texts.push_back(random_text(random, any_bytes, 20));
    const std::vector<std::string_view> views(texts.begin(), texts.end());
    check(!trained(views, small_options, 2).empty(), "characters are always there");
  }
  check(trained({}, small_options, 1).empty(), "nothing is learned from nothing");
}

void refuses_what_makes_no_sense() {
  const auto refused = [](auto change) {
    UnigramTrainingOptions options = small_options;
    change(options);
    return refusal([&] { trained({}, options, 1); });
  };

  check(holds(refused([](auto& o) { o.vocab_size = 3; }), "vocab_size=3"), "no room");
  check(holds(refused([](auto& o) { o.shrinking_factor = 1; }), "shrinking_factor=1"), "endless");
  check(holds(refused([](auto& o) { o.character_coverage = NAN; }), "character_coverage"), "NaN");
}

}  // namespace
}  // namespace weldlm::test

int main() {
  weldlm::test::seeds_are_substrings_that_branch();
  weldlm::test::seeds_do_not_mix_scripts_or_hold_rare_characters();
  weldlm::test::digamma_is_the_derivative_of_lgamma();
  weldlm::test::training_does_not_depend_on_threads();
  weldlm::test::stays_inside_any_bytes();
  weldlm::test::refuses_what_makes_no_sense();
}
