// Unigram and BPE over characters against their definitions, on any bytes.
#include <algorithm>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "check.hpp"
#include "tokenizer/sentencepiece_bpe.hpp"
#include "tokenizer/unicode.hpp"
#include "tokenizer/unigram.hpp"

namespace weldlm::test {
namespace {

using Ids = std::vector<std::uint32_t>;

const std::string space(metaspace);
const std::vector<std::string> tokens = {"<unk>",
                                         "a",
                                         "b",
                                         "ab",
                                         "ba",
                                         "aab",
                                         space,
                                         "bb",
                                         space + "ab",
                                         "abab",
                                         space + "a",
                                         "\xC3\xA9"
                                         "a",
                                         "s"};
// no two ways have sums that only rounding tells apart
const std::vector<double> scores = {0,  -3.5,   -4.25, -5.125, -6.5,  -7.0625, -2.75,
                                    -9, -6.375, -9.5,  -4.5,   -8.75, -3.25};
constexpr std::string_view alphabet[] = {"a", "b",        "ab",          "\xE2\x96\x81",
                                         "s", "\xC3\xA9", "\xE4\xB8\xAD"};

Ids all_but_unknown() {
  Ids ids;
  for (std::uint32_t id = 1; id < tokens.size(); ++id) ids.push_back(id);
  return ids;
}

Unigram unigram(UnigramRules rules, Ids byte_ids = {}) {
  return Unigram({tokens, scores, all_but_unknown(), 0, -19.5, std::move(byte_ids), rules});
}

// The best sum over all segmentations.
double best_sum(const std::string& text) {
  std::vector<double> best(text.size() + 1, -std::numeric_limits<double>::infinity());
  best[0] = 0;
  for (std::size_t start = 0; start < text.size(); start += char_at(text, start).size) {
    for (std::size_t id = 1; id < tokens.size(); ++id) {
      if (text.compare(start, tokens[id].size(), tokens[id]) != 0) continue;
      const std::size_t end = start + tokens[id].size();
      best[end] = std::max(best[end], best[start] + scores[id]);
    }
    const std::size_t next = start + char_at(text, start).size;
    const bool is_token =
        std::find(tokens.begin(), tokens.end(), text.substr(start, next - start)) != tokens.end();
    if (!is_token) best[next] = std::max(best[next], best[start] - 19.5);
  }
  return best.back();
}

// The sum of the ids of a text, with the unknown score for each character of an unknown token.
double sum_of(const std::string& text, const TokenSink& sink) {
  double sum = 0;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < sink.ids.size(); ++i) {
    const std::size_t end = begin + sink.sizes[i];
    if (sink.ids[i] != 0) {
      check(tokens[sink.ids[i]] == text.substr(begin, sink.sizes[i]), "sizes are of the tokens");
      sum += scores[sink.ids[i]];
    }
    for (; sink.ids[i] == 0 && begin < end; begin += char_at(text, begin).size) sum -= 19.5;
    begin = end;
  }
  check(begin == text.size(), "sizes add up");
  return sum;
}

void finds_the_best_sum(UnigramRules rules) {
  const Unigram model = unigram(rules);
  const auto workspace = model.make_workspace();
  std::mt19937 random(21);
  for (int round = 0; round < 5000; ++round) {
    const std::string text = random_text(random, alphabet, 30);
    TokenSink sink;
    sink.wants_sizes = true;
    if (!text.empty()) model.encode(text, workspace.get(), sink);
    check(sum_of(text, sink) == best_sum(text), text);
  }
}

void remembered_parts_change_nothing() {
  const Unigram model = unigram(UnigramRules::sentencepiece);
  const auto used = model.make_workspace();
  std::mt19937 random(22);
  for (int round = 0; round < 20; ++round) {
    // long enough for sums that start anew
    const std::string text = "a" + random_text(random, alphabet, 40000);
    TokenSink cached;
    TokenSink fresh;
    model.encode(text, used.get(), cached);
    model.encode(text, model.make_workspace().get(), fresh);
    check(cached.ids == fresh.ids, "the same ids");
  }
}

void any_bytes_are_covered() {
  Ids byte_ids(256, 12);
  const Unigram model = unigram(UnigramRules::tokenizers, byte_ids);
  const auto workspace = model.make_workspace();
  std::mt19937 random(23);
  for (int round = 0; round < 5000; ++round) {
    const std::string text = "a" + random_text(random, any_bytes, 40);
    // a buffer of exactly this size, so that a byte too far is seen
    const std::vector<char> buffer(text.begin(), text.end());
    TokenSink sink;
    sink.wants_sizes = true;
    model.encode({buffer.data(), buffer.size()}, workspace.get(), sink);
    std::size_t size = 0;
    for (const std::uint32_t part : sink.sizes) size += part;
    check(size == text.size(), "sizes add up");
  }
}

const std::vector<float> merge_scores = {0, -1, -2, -3, -4, -5, -6, -7, -3, -9, -4, -11, -12};

SentencePieceBpe bpe() {
  CharacterBpeVocabulary vocabulary{tokens, all_but_unknown(), {9}, 0, true, {}};
  const CharacterMerges merges = merges_by_score(tokens, vocabulary.merged_ids, merge_scores);
  return SentencePieceBpe(std::move(vocabulary), merges);
}

// Merges the neighbors whose token has the highest score, the leftmost of equals, again and again.
std::vector<std::string> merge_by_definition(const std::string& text) {
  std::vector<std::string> parts;
  for (std::size_t pos = 0; pos < text.size();) {
    const bool is_unsplit = text.compare(pos, tokens[9].size(), tokens[9]) == 0;
    const std::size_t size = is_unsplit ? tokens[9].size() : char_at(text, pos).size;
    // a mark that keeps what is not split from merging
    parts.push_back((is_unsplit ? "!" : "") + text.substr(pos, size));
    pos += size;
  }
  while (true) {
    std::size_t best = parts.size();
    float best_score = -std::numeric_limits<float>::infinity();
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto found = std::find(tokens.begin() + 1, tokens.end(), parts[i] + parts[i + 1]);
      if (found == tokens.end()) continue;
      const float score = merge_scores[static_cast<std::size_t>(found - tokens.begin())];
      if (score > best_score) {
        best = i;
        best_score = score;
      }
    }
    if (best == parts.size()) return parts;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

Ids ids_by_definition(const std::string& text) {
  Ids ids;
  bool is_behind_unknown = false;
  for (const std::string& part : merge_by_definition(text)) {
    const std::string token = part.starts_with("!") ? part.substr(1) : part;
    const auto found = std::find(tokens.begin() + 1, tokens.end(), token);
    const bool is_unknown = found == tokens.end();
    if (!is_unknown) ids.push_back(static_cast<std::uint32_t>(found - tokens.begin()));
    if (is_unknown && !is_behind_unknown) ids.push_back(0);
    is_behind_unknown = is_unknown;
  }
  return ids;
}

void merges_by_definition(std::size_t most) {
  const SentencePieceBpe model = bpe();
  const auto workspace = model.make_workspace();
  std::mt19937 random(24);
  for (int round = 0; round < 2000; ++round) {
    const std::string text = random_text(random, alphabet, most);
    TokenSink sink;
    if (!text.empty()) model.encode(text, workspace.get(), sink);
    check(sink.ids == ids_by_definition(text), text);
  }
}

void cuts_are_where_no_token_crosses() {
  const std::vector<std::string> words = {"a", space + "a", "b"};
  const std::vector<std::string> runs = {"a", space + space + "a"};
  const std::vector<std::string> crossing = {"a" + space, "b"};
  check(cuts_of(words) == MetaspaceCuts::before_each, "one in front");
  check(cuts_of(runs) == MetaspaceCuts::before_runs, "several in front");
  check(cuts_of(crossing) == MetaspaceCuts::nowhere, "one behind");
  check(part_end("a" + space + space + "b", 1, MetaspaceCuts::before_runs) == 8, "a run stays");
  check(part_end("a" + space + space + "b", 1, MetaspaceCuts::before_each) == 4, "a run is cut");
}

}  // namespace
}  // namespace weldlm::test

int main() {
  weldlm::test::finds_the_best_sum(weldlm::UnigramRules::sentencepiece);
  weldlm::test::finds_the_best_sum(weldlm::UnigramRules::tokenizers);
  weldlm::test::remembered_parts_change_nothing();
  weldlm::test::any_bytes_are_covered();
  weldlm::test::merges_by_definition(20);
  weldlm::test::merges_by_definition(150);
  weldlm::test::cuts_are_where_no_token_crosses();
}
