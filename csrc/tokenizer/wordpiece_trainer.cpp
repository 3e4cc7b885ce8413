#include "tokenizer/wordpiece_trainer.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <stdexcept>
#include <utility>

#include "tokenizer/code_points.hpp"

namespace weldlm {
namespace {

using Words = std::vector<WordCounts::Word>;

// Calls visit(character as UTF-8, whether it begins the word) for each character.
template <typename Visit>
void for_each_char(std::string_view word, const Visit& visit) {
  for (std::size_t pos = 0; pos < word.size();) {
    const std::size_t size = code_point_at(word, pos).size;
    visit(word.substr(pos, size), pos == 0);
    pos += size;
  }
}

// UTF-8 sorts as code points do. Characters of the initial alphabet have the greatest count.
std::map<std::string_view, std::int64_t> count_chars(const Words& words) {
  std::map<std::string_view, std::int64_t> counts;
  for (const auto& [bytes, count] : words) {
    for_each_char(bytes, [&, count = count](std::string_view c, bool) { counts[c] += count; });
  }
  return counts;
}

std::vector<std::string> find_alphabet(const Words& words,
                                       const WordPieceTrainingOptions& options) {
  std::map<std::string, std::int64_t> counts;
  for (const auto& [c, count] : count_chars(words)) counts.emplace(c, count);
  for (const char32_t value : options.initial_alphabet) {
    std::string c;
    append_utf8(value, c);
    counts[c] = std::numeric_limits<std::int64_t>::max();
  }
  std::vector<std::pair<std::string, std::int64_t>> kept(counts.begin(), counts.end());
  if (options.limit_alphabet && *options.limit_alphabet < kept.size()) {
    std::stable_sort(kept.begin(), kept.end(),
                     [](const auto& a, const auto& b) { return a.second > b.second; });
    kept.resize(*options.limit_alphabet);
  }
  std::vector<std::string> alphabet;
  for (auto& [c, count] : kept) alphabet.push_back(std::move(c));
  std::sort(alphabet.begin(), alphabet.end());
  return alphabet;
}

// Words without the characters that have no token.
SymbolWords symbol_words(const Words& words, TokenNames& names, const std::string& prefix) {
  // names grow below: what is a character of the alphabet is settled before
  std::set<std::string> known;
  std::set<std::string> inside;
  for (const auto& [bytes, count] : words) {
    for_each_char(bytes, [&](std::string_view c, bool is_first) {
      const std::string name(c);
      if (!names.holds(name)) return;
      known.insert(name);
      if (!is_first) inside.insert(name);
    });
  }
  for (const std::string& c : inside) names.id_of(prefix + c);

  SymbolWords result;
  for (const auto& [bytes, count] : words) {
    for_each_char(bytes, [&](std::string_view c, bool is_first) {
      const std::string name(c);
      if (known.contains(name))
        result.symbols.push_back(names.id_of(is_first ? name : prefix + name));
    });
    result.end_word(count);
  }
  return result;
}

void require_options(const WordPieceTrainingOptions& options) {
  if (options.vocab_size < 1) {
    throw std::invalid_argument("vocab_size=" + std::to_string(options.vocab_size) +
                                ", expected at least 1");
  }
  if (options.min_frequency < 0) {
    throw std::invalid_argument("min_frequency=" + std::to_string(options.min_frequency) +
                                ", expected at least 0");
  }
}

}  // namespace

void WordPieceTrainer::feed(std::span<const std::string_view> texts, std::size_t num_threads) {
  words_.feed(texts, num_threads,
              [this](std::string_view text, WordCounts& counts) { count_words(text, counts); });
}

void WordPieceTrainer::count_words(std::string_view text, WordCounts& counts) const {
  NormalizedText normalized;
  if (normalizer_ != nullptr) {
    normalizer_->normalize(NormalizedText(text, Origins::none), true, normalized);
    text = normalized.text();
  }
  if (pretokenizer_ == nullptr) {
    if (!text.empty()) counts.add(text, 1);
    return;
  }
  std::vector<ByteRange> pieces;
  for (std::size_t start = 0; start < text.size();) {
    pieces.clear();
    start = pretokenizer_->split(text, start, pieces);
    for (const auto& [begin, end] : pieces) counts.add(text.substr(begin, end - begin), 1);
  }
}

std::vector<std::string> WordPieceTrainer::train(const WordPieceTrainingOptions& options,
                                                 const TrainingProgress& progress) {
  require_options(options);
  const Words words = words_.joined();
  TokenNames names;
  for (const std::string& token : options.special_tokens) names.id_of(token);
  for (const std::string& c : find_alphabet(words, options)) names.id_of(c);
  SymbolWords symbols = symbol_words(words, names, options.continuing_prefix);
  learn_merges(names, std::move(symbols),
               {options.vocab_size, options.min_frequency, options.continuing_prefix}, progress);
  return names.take();
}

}  // namespace weldlm
