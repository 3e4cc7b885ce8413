#include "tokenizer/unigram.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "tokenizer/part_cache.hpp"
#include "tokenizer/trie_search.hpp"
#include "tokenizer/unicode.hpp"

namespace weldlm {
namespace {

// Scratch memory that a longer part asked for is given back after it.
constexpr std::size_t max_kept_ways = std::size_t{1} << 16;
// sentencepiece starts anew from a sum beyond this.
constexpr double largest_float_sum = 100000;
constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr std::uint32_t no_start = std::numeric_limits<std::uint32_t>::max();

void require_id(std::uint32_t id, std::size_t num_tokens, const char* what) {
  if (id < num_tokens) return;
  throw std::invalid_argument(std::string(what) + " has the id " + std::to_string(id) +
                              "; expected 0 to " + std::to_string(num_tokens - 1));
}

UnigramVocabulary checked(UnigramVocabulary vocabulary) {
  const std::size_t num_tokens = vocabulary.tokens.size();
  if (num_tokens == 0 || vocabulary.scores.size() != num_tokens) {
    throw std::invalid_argument(std::to_string(vocabulary.scores.size()) + " scores of " +
                                std::to_string(num_tokens) + " tokens; expected one of each");
  }
  if (!vocabulary.byte_ids.empty() && vocabulary.byte_ids.size() != 256) {
    throw std::invalid_argument(std::to_string(vocabulary.byte_ids.size()) +
                                " tokens of bytes; expected none or 256");
  }
  require_id(vocabulary.unknown_id, num_tokens, "the unknown token");
  for (const std::uint32_t id : vocabulary.byte_ids) require_id(id, num_tokens, "a byte");
  for (const std::uint32_t id : vocabulary.matched_ids) {
    require_id(id, num_tokens, "a matched token");
    if (vocabulary.tokens[id].empty()) {
      throw std::invalid_argument("the token of id " + std::to_string(id) +
                                  " is empty; expected at least one byte");
    }
  }
  vocabulary.scores.push_back(vocabulary.unknown_score);
  for (const double score : vocabulary.scores) {
    if (!std::isfinite(score)) throw std::invalid_argument("a score is not a finite number");
  }
  vocabulary.scores.pop_back();
  return vocabulary;
}

PrefixTrie trie_of(const UnigramVocabulary& vocabulary) {
  std::vector<PrefixTrie::Entry> pieces;
  pieces.reserve(vocabulary.matched_ids.size());
  for (const std::uint32_t id : vocabulary.matched_ids) {
    pieces.push_back({vocabulary.tokens[id], id});
  }
  return PrefixTrie(std::move(pieces));
}

// The best way to a place in a part.
struct BestWay {
  double sum = 0;
  std::uint32_t start = no_start;  // of its last token
  std::uint32_t id = 0;
  double second_sum = -infinity;  // of the next best way, where it is asked for
};

struct Step {
  std::uint32_t id;
  std::uint32_t size;
};

void trace_back(const std::vector<BestWay>& ways, std::size_t end, std::vector<Step>& steps) {
  steps.clear();
  while (end > 0) {
    const BestWay& way = ways[end];
    steps.push_back({way.id, static_cast<std::uint32_t>(end - way.start)});
    end = way.start;
  }
  std::reverse(steps.begin(), steps.end());
}

}  // namespace

struct Unigram::State : Workspace {
  PartCache cache;
  std::vector<BestWay> ways;
  std::vector<Step> steps;
  double base = 0;           // the sum of the scores so far
  std::string_view unknown;  // characters that wait for more unknown ones
};

Unigram::Unigram(UnigramVocabulary vocabulary)
    : vocabulary_(checked(std::move(vocabulary))),
      trie_(trie_of(vocabulary_)),
      cuts_(MetaspaceCuts::before_each),
      largest_score_(std::abs(vocabulary_.unknown_score)) {
  for (const std::string& token : vocabulary_.tokens) {
    sizes_.push_back(static_cast<std::uint32_t>(token.size()));
  }
  for (const std::uint32_t id : vocabulary_.matched_ids) {
    if (cuts_ != MetaspaceCuts::nowhere) cuts_ = cuts_with(cuts_, vocabulary_.tokens[id]);
    largest_score_ = std::max(largest_score_, std::abs(vocabulary_.scores[id]));
  }
}

std::unique_ptr<Workspace> Unigram::make_workspace() const { return std::make_unique<State>(); }

void Unigram::encode(std::string_view piece, Workspace* workspace, TokenSink& sink) const {
  State& state = static_cast<State&>(*workspace);
  state.base = 0;
  state.unknown = {};
  for (std::size_t start = 0; start < piece.size();) {
    const std::size_t end = part_end(piece, start, cuts_);
    const std::string_view part = piece.substr(start, end - start);
    if (!encode_cached(part, state, sink)) encode_part(part, state, sink);
    start = end;
  }
  add_unknown(state, sink);
  if (state.ways.size() > max_kept_ways) {
    state.ways = {};
    state.steps = {};
  }
}

void Unigram::encode_part(std::string_view part, State& state, TokenSink& sink) const {
  if (vocabulary_.rules == UnigramRules::sentencepiece) {
    search<float>(part, state);
  } else {
    search<double>(part, state);
  }
  const char* text = part.data();
  for (const Step& step : state.steps) {
    if (step.id == vocabulary_.unknown_id) {
      const char* begin = state.unknown.empty() ? text : state.unknown.data();
      state.unknown = {begin, state.unknown.size() + step.size};
    } else {
      add_known(step.id, state, sink);
    }
    text += step.size;
  }
}

// Does nothing unless the segmentation is known for every rounding of the sums.
bool Unigram::encode_cached(std::string_view part, State& state, TokenSink& sink) const {
  const PartCache::Key key = PartCache::key_of(part);
  if (key.shape == 0) return false;
  const PartCache::Entry* entry = state.cache.find(key);
  if (entry == nullptr) {
    PartCache::Entry added{key, 0, -1, {}};
    const double margin = search_exactly(part, state);
    const bool has_unknown =
        std::any_of(state.steps.begin(), state.steps.end(),
                    [&](const Step& step) { return step.id == vocabulary_.unknown_id; });
    if (!has_unknown && state.steps.size() <= PartCache::max_ids) {
      for (const Step& step : state.steps) added.ids[added.num_ids++] = step.id;
      added.largest_base = static_cast<float>(largest_base(part, margin));
    }
    entry = state.cache.insert(added);
  }
  if (!(std::abs(state.base) <= entry->largest_base)) return false;
  const bool is_float = vocabulary_.rules == UnigramRules::sentencepiece;
  for (const std::uint32_t id : entry->tokens()) {
    add_known(id, state, sink);
    const double sum = state.base + vocabulary_.scores[id];
    state.base = is_float ? static_cast<float>(sum) : sum;
  }
  return true;
}

// Calls visit(end, id, score) for each token at `start`, in the order of `end`.
template <typename Visit>
void Unigram::for_each_edge(std::string_view part, std::size_t start, const Visit& visit) const {
  const std::size_t next = start + char_at(part, start).size;
  bool is_known = false;
  std::uint32_t node = PrefixTrie::root;
  for (std::size_t end = start; end < part.size();) {
    node = trie_.child(node, part[end++]);
    if (node == PrefixTrie::nothing) break;
    const std::uint32_t id = trie_.id(node);
    if (id == PrefixTrie::nothing) continue;
    visit(end, id, vocabulary_.scores[id]);
    is_known = is_known || end == next;
  }
  if (!is_known) visit(next, vocabulary_.unknown_id, vocabulary_.unknown_score);
}

// Leaves the tokens of the part in state.steps and adds their scores to the base, with the
// roundings of the rules.
template <typename Sum>
void Unigram::search(std::string_view part, State& state) const {
  auto& ways = state.ways;
  ways.assign(part.size() + 1, {});
  ways[0].sum = state.base;
  std::size_t last = 0;
  for (std::size_t start = 0; start < part.size(); start += char_at(part, start).size) {
    if (std::is_same_v<Sum, float> && std::abs(ways[start].sum) > largest_float_sum) {
      const double offset = ways[start].sum;
      for (std::size_t i = start; i <= last; ++i) {
        ways[i].sum = static_cast<Sum>(ways[i].sum - offset);
      }
    }
    for_each_edge(part, start, [&](std::size_t end, std::uint32_t id, double score) {
      const double sum = static_cast<Sum>(score + ways[start].sum);
      last = std::max(last, end);
      BestWay& way = ways[end];
      if (way.start != no_start && !(sum > way.sum)) return;
      way.sum = sum;
      way.start = static_cast<std::uint32_t>(start);
      way.id = id;
    });
  }
  trace_back(ways, part.size(), state.steps);
  state.base = ways[part.size()].sum;
}

// Leaves the tokens of the part in state.steps; returns by how much they are better than any other
// tokens.
double Unigram::search_exactly(std::string_view part, State& state) const {
  auto& ways = state.ways;
  ways.assign(part.size() + 1, {-infinity, no_start, 0, -infinity});
  ways[0].sum = 0;
  for (std::size_t start = 0; start < part.size(); start += char_at(part, start).size) {
    for_each_edge(part, start, [&](std::size_t end, std::uint32_t id, double score) {
      double sum = ways[start].sum + score;
      BestWay& way = ways[end];
      way.second_sum = std::max(way.second_sum, ways[start].second_sum + score);
      if (sum > way.sum) {
        std::swap(sum, way.sum);
        way.start = static_cast<std::uint32_t>(start);
        way.id = id;
      }
      way.second_sum = std::max(way.second_sum, sum);
    });
  }
  trace_back(ways, part.size(), state.steps);
  return ways[part.size()].sum - ways[part.size()].second_sum;
}

// Every sum on the way through a part is rounded once for each token: two sums that differ by more
// than all of these roundings keep their order. A rounding is at most `epsilon` of the sum.
double Unigram::largest_base(std::string_view part, double margin) const noexcept {
  const bool is_float = vocabulary_.rules == UnigramRules::sentencepiece;
  const double epsilon =
      is_float ? std::numeric_limits<float>::epsilon() : std::numeric_limits<double>::epsilon();
  const auto num_bytes = static_cast<double>(part.size());
  const double limit = is_float ? largest_float_sum : 1e30;
  return std::min(limit, margin / (4 * epsilon * (num_bytes + 1))) - num_bytes * largest_score_;
}

void Unigram::add_known(std::uint32_t id, State& state, TokenSink& sink) const {
  if (!state.unknown.empty()) add_unknown(state, sink);
  sink.add(id, sizes_[id]);
}

// Adds the unknown characters that wait.
void Unigram::add_unknown(State& state, TokenSink& sink) const {
  const std::string_view text = std::exchange(state.unknown, {});
  if (text.empty()) return;
  if (vocabulary_.rules == UnigramRules::tokenizers) {
    const std::uint32_t id = id_of(trie_, text);
    if (id != PrefixTrie::nothing) {
      sink.add(id, text.size());
      return;
    }
  }
  if (vocabulary_.byte_ids.empty()) {
    sink.add(vocabulary_.unknown_id, text.size());
    return;
  }
  for (const char byte : text) {
    sink.add(vocabulary_.byte_ids[static_cast<unsigned char>(byte)], 1);
  }
}

}  // namespace weldlm
