#include "tokenizer/unigram_seeds.hpp"

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "tokenizer/code_points.hpp"
#include "tokenizer/scripts.hpp"

namespace weldlm {
namespace {

constexpr char32_t metaspace_value = 0x2581;
// no characters: what stands for one beyond the alphabet, and for the two ends of a word
constexpr char32_t rare_character = 0x110000;
constexpr char32_t followed_end = 0x110001;
constexpr char32_t last_end = 0x110002;

// All words end to end, each with its end.
struct WordArray {
  std::u32string characters;
  std::vector<std::size_t> starts;   // of the suffixes, one for each character of a word
  std::vector<std::int64_t> counts;  // of the word that a character is in
};

WordArray array_of(std::span<const SeedWord> words, const std::set<char32_t>& alphabet) {
  WordArray array;
  for (const auto& [bytes, is_followed, count] : words) {
    for (std::size_t pos = 0; pos < bytes.size();) {
      const auto [value, size] = code_point_at(bytes, pos);
      array.starts.push_back(array.characters.size());
      array.characters += alphabet.contains(value) ? value : rare_character;
      array.counts.push_back(count);
      pos += size;
    }
    array.characters += is_followed ? followed_end : last_end;
    array.counts.push_back(0);
  }
  return array;
}

// The suffixes up to their ends and to `limit` characters.
class SuffixOrder {
 public:
  SuffixOrder(const WordArray& array, std::size_t limit) : array_(array), limit_(limit) {}

  // How many characters two suffixes share.
  std::size_t shared(std::size_t first, std::size_t second) const noexcept {
    std::size_t size = 0;
    while (size < limit_ && at(first + size) == at(second + size)) {
      if (at(first + size++) >= followed_end) break;
    }
    return size;
  }

  bool operator()(std::size_t first, std::size_t second) const noexcept {
    const std::size_t size = shared(first, second);
    if (size == limit_ || (size > 0 && at(first + size - 1) >= followed_end)) return false;
    return at(first + size) < at(second + size);
  }

 private:
  char32_t at(std::size_t pos) const noexcept { return array_.characters[pos]; }

  const WordArray& array_;
  std::size_t limit_;
};

// How many of the first characters of a text can be one piece.
std::size_t piece_length(std::u32string_view text) noexcept {
  constexpr std::uint32_t any_script = 0xFFFFFFFFu;
  std::uint32_t script = any_script;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char32_t value = text[i];
    if (value >= rare_character) return i;
    if (value == metaspace_value) {
      if (i > 0) return i;
      continue;
    }
    std::uint32_t own = script_of(value);
    if (own == inherited_script) own = script;
    if (script != any_script && own != any_script && own != script) return i;
    script = own;
  }
  return text.size();
}

std::string utf8_of(std::u32string_view text) {
  std::string bytes;
  for (const char32_t value : text) append_utf8(value, bytes);
  return bytes;
}

void sort_by_score(std::vector<ScoredPiece>& pieces) {
  std::sort(pieces.begin(), pieces.end(), [](const ScoredPiece& a, const ScoredPiece& b) {
    return a.score != b.score ? a.score > b.score : a.text < b.text;
  });
}

std::vector<ScoredPiece> single_characters(const WordArray& array) {
  std::map<char32_t, std::int64_t> counts;
  for (const std::size_t start : array.starts) {
    if (array.characters[start] < rare_character) {
      counts[array.characters[start]] += array.counts[start];
    }
  }
  std::vector<ScoredPiece> pieces;
  for (const auto& [value, count] : counts) {
    pieces.push_back({utf8_of({&value, 1}), static_cast<double>(count)});
  }
  sort_by_score(pieces);
  return pieces;
}

// The intervals of suffixes that share a beginning and differ behind it.
std::vector<ScoredPiece> substrings(WordArray& array, std::size_t max_length) {
  const SuffixOrder order(array, max_length + 1);
  std::vector<std::size_t>& suffixes = array.starts;
  std::sort(suffixes.begin(), suffixes.end(), order);
  struct Interval {
    std::size_t length;         // of the beginning
    std::int64_t count_before;  // of all suffixes before the interval
  };
  std::vector<ScoredPiece> pieces;
  std::vector<Interval> open;
  std::int64_t count = 0;
  for (std::size_t i = 0; i < suffixes.size(); ++i) {
    std::int64_t count_before = count;
    count += array.counts[suffixes[i]];
    const std::size_t length =
        i + 1 < suffixes.size() ? order.shared(suffixes[i], suffixes[i + 1]) : 0;
    while (!open.empty() && open.back().length > length) {
      const auto text =
          std::u32string_view(array.characters).substr(suffixes[i], open.back().length);
      count_before = open.back().count_before;
      open.pop_back();
      if (text.size() < 2 || text.size() > max_length || piece_length(text) < text.size()) continue;
      const auto area = (count - count_before) * static_cast<std::int64_t>(text.size());
      pieces.push_back({utf8_of(text), static_cast<double>(area)});
    }
    if (length > 0 && (open.empty() || open.back().length < length)) {
      open.push_back({length, count_before});
    }
  }
  return pieces;
}

}  // namespace

std::vector<ScoredPiece> seed_pieces(std::span<const SeedWord> words,
                                     const std::set<char32_t>& alphabet,
                                     const SeedOptions& options) {
  WordArray array = array_of(words, alphabet);
  std::vector<ScoredPiece> pieces = single_characters(array);
  std::vector<ScoredPiece> longer = substrings(array, options.max_piece_length);
  sort_by_score(longer);
  if (longer.size() > options.num_seeds) longer.resize(options.num_seeds);
  for (ScoredPiece& piece : longer) pieces.push_back(std::move(piece));
  return pieces;
}

}  // namespace weldlm
