// o200k and Tekken: words split by case.
#include <optional>

#include "tokenizer/pattern_scan.hpp"
#include "tokenizer/patterns.hpp"

namespace weldlm {
namespace {

constexpr CharClasses caseless =
    classes_of(CharClass::modifier_letter, CharClass::other_letter) | mark_classes;
constexpr CharClasses upper = classes_of(CharClass::uppercase, CharClass::titlecase) | caseless;
constexpr CharClasses lower = classes_of(CharClass::lowercase) | caseless;

// [upper] from some position on.
struct UpperRun {
  std::size_t end;
  std::size_t after_caseless;  // behind the last character in it that is also [lower]; 0 if none
};

UpperRun upper_run(std::string_view text, std::size_t start) noexcept {
  UpperRun run{start, 0};
  while (run.end < text.size()) {
    const Char next = classify(text, run.end);
    if (!upper.holds(next.kind)) break;
    run.end += next.size;
    if (caseless.holds(next.kind)) run.after_caseless = run.end;
  }
  return run;
}

// The end of [upper]*[lower]+ at `start`. Where no small letter follows the run of [upper], the
// last character of the run that is also [lower] ends the word.
std::optional<std::size_t> lower_word_end(std::string_view text, std::size_t start) noexcept {
  const UpperRun run = upper_run(text, start);
  const std::size_t end = skip(text, run.end, lower);
  if (end > run.end) return end;
  if (run.after_caseless > 0) return run.after_caseless;
  return std::nullopt;
}

// The end of [upper]+[lower]* at `start` where [upper]*[lower]+ does not match.
std::optional<std::size_t> upper_word_end(std::string_view text, std::size_t start) noexcept {
  const UpperRun run = upper_run(text, start);
  if (run.end > start) return run.end;
  return std::nullopt;
}

// The end of the word, its contraction left out, with or without a character before it. The
// order is that of the alternatives: a mark that comes first is tried as that character.
std::optional<std::size_t> word_end(std::string_view text, std::size_t start,
                                    const Char& first) noexcept {
  const std::size_t second = start + first.size;
  const bool is_prefix = !letter_classes.holds(first.kind) && !is_newline(text[start]);
  const bool is_word = letter_classes.holds(first.kind) || first.kind == CharClass::mark;
  for (const auto find_end : {lower_word_end, upper_word_end}) {
    if (is_prefix) {
      if (const auto end = find_end(text, second)) return end;
    }
    if (is_word) {
      if (const auto end = find_end(text, start)) return end;
    }
  }
  return std::nullopt;
}

template <bool has_contractions, std::size_t max_digits>
std::size_t piece_end(std::string_view text, std::size_t start) noexcept {
  const Char first = classify(text, start);
  const std::size_t second = start + first.size;
  if (number_classes.holds(first.kind)) {
    return skip_some(text, second, number_classes, max_digits - 1);
  }
  if (const auto end = word_end(text, start, first)) {
    return has_contractions ? *end + contraction_size(text, *end) : *end;
  }
  const std::size_t signs_begin = text[start] == ' ' ? second : start;
  std::size_t end = skip(text, signs_begin, sign_classes);
  if (end > signs_begin) {
    while (end < text.size() && (is_newline(text[end]) || text[end] == '/')) ++end;
    return end;
  }
  return end_of_spaces_or_lines(text, start);
}

}  // namespace

std::size_t o200k_piece_end(std::string_view text, std::size_t start) noexcept {
  return piece_end<true, 3>(text, start);
}

std::size_t tekken_piece_end(std::string_view text, std::size_t start) noexcept {
  return piece_end<false, 1>(text, start);
}

}  // namespace weldlm
