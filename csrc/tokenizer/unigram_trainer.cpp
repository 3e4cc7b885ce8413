#include "tokenizer/unigram_trainer.hpp"

#include <algorithm>
#include <map>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>

#include "tokenizer/code_points.hpp"
#include "tokenizer/metaspace_cuts.hpp"
#include "tokenizer/unigram_em.hpp"

namespace weldlm {
namespace {

// What separates the scores of characters that training has left out.
constexpr double score_delta = 0.0001;
// Removals stop at this many times the size of the vocabulary; scores decide on the rest.
constexpr double overshoot = 1.1;

struct CountedChar {
  char32_t value;
  std::int64_t count;
};

void require_options(const UnigramTrainingOptions& options) {
  const auto require = [](bool holds, const char* name, auto value, const char* expected) {
    if (holds) return;
    throw std::invalid_argument(std::string(name) + "=" + std::to_string(value) + ", expected " +
                                expected);
  };
  require(options.num_special_tokens >= 0, "num_special_tokens", options.num_special_tokens,
          "at least 0");
  require(options.vocab_size > options.num_special_tokens, "vocab_size", options.vocab_size,
          "more than there are special tokens");
  require(options.character_coverage > 0 && options.character_coverage <= 1, "character_coverage",
          options.character_coverage, "more than 0 and at most 1");
  require(options.max_piece_length >= 1, "max_piece_length", options.max_piece_length,
          "at least 1");
  require(options.num_sub_iterations >= 1, "num_sub_iterations", options.num_sub_iterations,
          "at least 1");
  require(options.shrinking_factor > 0 && options.shrinking_factor < 1, "shrinking_factor",
          options.shrinking_factor, "more than 0 and less than 1");
}

std::vector<SeedWord> seed_words(const std::vector<WordCounts::Word>& words) {
  std::vector<SeedWord> result;
  for (auto [bytes, count] : words) {
    const bool is_followed = bytes.size() > metaspace.size() && bytes.ends_with(metaspace);
    if (is_followed) bytes.remove_suffix(metaspace.size());
    result.push_back({bytes, is_followed, count});
  }
  return result;
}

// Each word once, in the order of the bytes.
std::vector<WordCounts::Word> joined_words(std::vector<SeedWord> words) {
  std::sort(words.begin(), words.end(),
            [](const SeedWord& a, const SeedWord& b) { return a.bytes < b.bytes; });
  std::vector<WordCounts::Word> joined;
  for (const auto& [bytes, is_followed, count] : words) {
    if (joined.empty() || joined.back().bytes != bytes) joined.push_back({bytes, 0});
    joined.back().count += count;
  }
  return joined;
}

// The most frequent characters, up to the coverage, in this order.
std::vector<CountedChar> find_alphabet(const std::vector<SeedWord>& words, double coverage) {
  std::map<char32_t, std::int64_t> counts;
  std::int64_t total = 0;
  for (const auto& [bytes, is_followed, count] : words) {
    for (std::size_t pos = 0; pos < bytes.size();) {
      const auto [value, size] = code_point_at(bytes, pos);
      pos += size;
      if (value == 0 || value == no_code_point) continue;
      counts[value] += count;
      total += count;
    }
  }
  std::vector<CountedChar> chars;
  for (const auto& [value, count] : counts) chars.push_back({value, count});
  std::stable_sort(chars.begin(), chars.end(),
                   [](const CountedChar& a, const CountedChar& b) { return a.count > b.count; });
  std::int64_t covered = 0;
  std::size_t num_kept = 0;
  while (num_kept < chars.size() &&
         static_cast<double>(covered) < coverage * static_cast<double>(total)) {
    covered += chars[num_kept++].count;
  }
  chars.resize(num_kept);
  return chars;
}

void sort_by_score(std::vector<ScoredPiece>& pieces) {
  std::sort(pieces.begin(), pieces.end(), [](const ScoredPiece& a, const ScoredPiece& b) {
    return a.score != b.score ? a.score > b.score : a.text < b.text;
  });
}

// The characters, then the most probable pieces up to `num_pieces`.
std::vector<ScoredPiece> finished(std::vector<ScoredPiece> pieces,
                                  const std::vector<CountedChar>& alphabet,
                                  std::size_t num_pieces) {
  sort_by_score(pieces);
  std::unordered_map<std::string, double> scores;
  for (const ScoredPiece& piece : pieces) scores.emplace(piece.text, piece.score);
  double lowest = pieces.empty() ? 0 : pieces.back().score;
  std::set<std::string> taken;
  std::vector<ScoredPiece> result;
  for (const auto& [value, count] : alphabet) {
    std::string text;
    append_utf8(value, text);
    const auto found = scores.find(text);
    const double score = found != scores.end() ? found->second : lowest;
    if (found == scores.end()) lowest += score_delta;
    taken.insert(text);
    result.push_back({std::move(text), score});
  }
  for (ScoredPiece& piece : pieces) {
    if (result.size() >= num_pieces) break;
    if (taken.insert(piece.text).second) result.push_back(std::move(piece));
  }
  sort_by_score(result);
  return result;
}

}  // namespace

void UnigramTrainer::feed(std::span<const std::string_view> texts, std::size_t num_threads) {
  words_.feed(texts, num_threads,
              [this](std::string_view text, WordCounts& counts) { count_words(text, counts); });
}

void UnigramTrainer::count_words(std::string_view text, WordCounts& counts) const {
  NormalizedText normalized;
  if (normalizer_ != nullptr) {
    normalizer_->normalize(NormalizedText(text, Origins::none), true, normalized);
    text = normalized.text();
  }
  for (std::size_t start = 0; start < text.size();) {
    const std::size_t end = part_end(text, start, MetaspaceCuts::before_each);
    const std::size_t shown = end < text.size() ? end + metaspace.size() : end;
    counts.add(text.substr(start, shown - start), 1);
    start = end;
  }
}

std::vector<ScoredPiece> UnigramTrainer::train(const UnigramTrainingOptions& options,
                                               std::size_t num_threads,
                                               const TrainingProgress& progress) {
  require_options(options);
  const std::vector<WordCounts::Word> counted = words_.joined();
  std::vector<SeedWord> words = seed_words(counted);
  const std::vector<CountedChar> alphabet = find_alphabet(words, options.character_coverage);
  std::set<char32_t> values;
  for (const CountedChar& one : alphabet) values.insert(one.value);
  std::vector<ScoredPiece> pieces =
      seed_pieces(words, values, {options.max_piece_length, options.num_seeds});
  normalize_scores(pieces);

  const UnigramCorpus corpus{joined_words(std::move(words)), num_threads,
                             [&] { progress(pieces.size()); }};
  const auto desired =
      static_cast<std::size_t>(static_cast<double>(options.vocab_size) * overshoot);
  while (true) {
    for (std::int64_t step = 0; step < options.num_sub_iterations; ++step) {
      pieces = reestimated(pieces, corpus);
    }
    const std::size_t size = pieces.size();
    if (size <= desired) break;
    const auto shrunk =
        static_cast<std::size_t>(options.shrinking_factor * static_cast<double>(size));
    pieces = pruned(pieces, corpus, std::max(desired, shrunk));
    // characters alone may be more
    if (pieces.size() >= size) break;
  }
  const auto num_pieces = static_cast<std::size_t>(options.vocab_size - options.num_special_tokens);
  return finished(std::move(pieces), alphabet, num_pieces);
}

}  // namespace weldlm
