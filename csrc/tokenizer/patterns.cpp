#include "tokenizer/patterns.hpp"

#include <array>
#include <stdexcept>
#include <string>
#include <utility>

#include "tokenizer/pattern_scan.hpp"

namespace weldlm {
namespace {

// The classes that a run of GPT-2 is made of: letters, numbers, or signs.
CharClasses run_classes(CharClass kind) noexcept {
  if (letter_classes.holds(kind)) return letter_classes;
  return number_classes.holds(kind) ? number_classes : sign_classes;
}

// Bytes of 's 't 'm 'd 're 've 'll in small letters at `start`; 0 if none is there.
std::size_t small_contraction_size(std::string_view text, std::size_t start) noexcept {
  const std::size_t size = contraction_size(text, start);
  for (std::size_t i = 1; i < size; ++i) {
    if (text[start + i] < 'a' || text[start + i] > 'z') return 0;
  }
  return size;
}

// What the Digits of tokenizers 0.23 takes for a number. It asks the standard library of Rust,
// which holds Unicode 17; all that its version adds is U+11DE0 to U+11DE9 and U+16FF4 to U+16FF6.
bool is_digit(std::string_view text, std::size_t pos, const Char& found) noexcept {
  if (found.kind != CharClass::unassigned) return number_classes.holds(found.kind);
  const std::string_view bytes = text.substr(pos, found.size);
  return (bytes >= "\xF0\x91\xB7\xA0" && bytes <= "\xF0\x91\xB7\xA9") ||
         (bytes >= "\xF0\x96\xBF\xB4" && bytes <= "\xF0\x96\xBF\xB6");
}

// The end of the characters from `pos` on that all are digits, or all are none.
std::size_t skip_digits(std::string_view text, std::size_t pos, bool are_digits) noexcept {
  while (pos < text.size()) {
    const Char next = classify(text, pos);
    if (is_digit(text, pos, next) != are_digits) return pos;
    pos += next.size;
  }
  return pos;
}

constexpr std::array<std::pair<std::string_view, PieceEnd>, 10> families{{
    {"gpt2", gpt2_piece_end},
    {"cl100k", cl100k_piece_end},
    {"o200k", o200k_piece_end},
    {"llama3", llama3_piece_end},
    {"qwen2", qwen2_piece_end},
    {"qwen3_5", qwen3_5_piece_end},
    {"tekken", tekken_piece_end},
    {"smollm", smollm_piece_end},
    {"digits", digits_piece_end},
    {"single_digits", single_digits_piece_end},
}};

}  // namespace

std::size_t gpt2_piece_end(std::string_view text, std::size_t start) noexcept {
  const std::size_t size = small_contraction_size(text, start);
  if (size != 0) return start + size;
  const Char first = classify(text, start);
  if (first.kind != CharClass::space) {
    return skip(text, start + first.size, run_classes(first.kind));
  }
  if (text[start] == ' ' && start + 1 < text.size()) {
    const Char next = classify(text, start + 1);
    if (next.kind != CharClass::space) {
      return skip(text, start + 1 + next.size, run_classes(next.kind));
    }
  }
  return end_of_spaces(text, start, space_run(text, start));
}

std::size_t smollm_piece_end(std::string_view text, std::size_t start) noexcept {
  const Char first = classify(text, start);
  if (is_digit(text, start, first)) return start + first.size;
  if (first.kind == CharClass::space) {
    const SpaceRun run = space_run(text, start);
    const bool is_before_digit =
        run.end < text.size() && is_digit(text, run.end, classify(text, run.end));
    if (is_before_digit) return run.end;
  }
  const std::size_t end = gpt2_piece_end(text, start);
  // the digits of Unicode 17 are signs to GPT-2
  return skip_digits(text.substr(0, end), start, false);
}

std::size_t single_digits_piece_end(std::string_view text, std::size_t start) noexcept {
  const Char first = classify(text, start);
  if (is_digit(text, start, first)) return start + first.size;
  return skip_digits(text, start, false);
}

std::size_t digits_piece_end(std::string_view text, std::size_t start) noexcept {
  return skip_digits(text, start, is_digit(text, start, classify(text, start)));
}

std::size_t PatternPretokenizer::split(std::string_view text, std::size_t start,
                                       std::vector<ByteRange>& pieces) const {
  for (std::size_t count = 0; count < batch_size && start < text.size(); ++count) {
    const std::size_t end = piece_end_(text, start);
    pieces.push_back({start, end});
    start = end;
  }
  return start;
}

PieceEnd find_pattern(std::string_view name) {
  std::string known;
  for (const auto& [family, piece_end] : families) {
    if (name == family) return piece_end;
    known += known.empty() ? "" : ", ";
    known += family;
  }
  throw std::invalid_argument("pattern family '" + std::string(name) +
                              "' does not exist; expected one of " + known);
}

}  // namespace weldlm
