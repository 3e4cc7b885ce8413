// The pieces that Unigram training begins with: characters, and substrings of the words that occur
// in front of several characters (the inner nodes of a suffix tree), as sentencepiece finds them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace weldlm {

struct ScoredPiece {
  std::string text;
  double score;
};

// A word, and whether another one follows it in its text. A word holds U+2581 nowhere but at its
// beginning.
struct SeedWord {
  std::string_view bytes;
  bool is_followed;
  std::int64_t count;
};

struct SeedOptions {
  std::size_t max_piece_length;  // characters
  std::size_t num_seeds;         // substrings; those that cover the most text are kept
};

// The characters with their counts, then the substrings with count times length; each group in
// descending order. Pieces hold no character beyond `alphabet` and no two scripts. Time is
// O(n log n) in the characters of the words.
std::vector<ScoredPiece> seed_pieces(std::span<const SeedWord> words,
                                     const std::set<char32_t>& alphabet,
                                     const SeedOptions& options);

}  // namespace weldlm
