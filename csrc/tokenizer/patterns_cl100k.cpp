// cl100k and the patterns that differ from it in a few places.
#include "tokenizer/pattern_scan.hpp"
#include "tokenizer/patterns.hpp"

namespace weldlm {
namespace {

struct Variant {
  CharClasses word = letter_classes;
  CharClasses sign = sign_classes;
  std::size_t max_digits = 3;
  bool ends_with_all_spaces = false;  // \s++$ comes before \s*[\r\n]
};

template <Variant variant>
std::size_t piece_end(std::string_view text, std::size_t start) noexcept {
  const std::size_t size = contraction_size(text, start);
  if (size != 0) return start + size;
  const Char first = classify(text, start);
  const std::size_t second = start + first.size;
  if (variant.word.holds(first.kind)) return skip(text, second, variant.word);
  if (number_classes.holds(first.kind)) {
    return skip_some(text, second, number_classes, variant.max_digits - 1);
  }
  if (second < text.size() && !is_newline(text[start])) {
    const Char next = classify(text, second);
    if (variant.word.holds(next.kind)) return skip(text, second + next.size, variant.word);
  }
  const std::size_t signs_begin = text[start] == ' ' ? second : start;
  std::size_t end = skip(text, signs_begin, variant.sign);
  if (end > signs_begin) {
    while (end < text.size() && is_newline(text[end])) ++end;
    return end;
  }
  if (!variant.ends_with_all_spaces) return end_of_spaces_or_lines(text, start);
  const SpaceRun run = space_run(text, start);
  return run.end == text.size() ? run.end : end_of_spaces_or_lines(text, start);
}

}  // namespace

std::size_t cl100k_piece_end(std::string_view text, std::size_t start) noexcept {
  return piece_end<Variant{.ends_with_all_spaces = true}>(text, start);
}

std::size_t llama3_piece_end(std::string_view text, std::size_t start) noexcept {
  return piece_end<Variant{}>(text, start);
}

std::size_t qwen2_piece_end(std::string_view text, std::size_t start) noexcept {
  return piece_end<Variant{.max_digits = 1}>(text, start);
}

std::size_t qwen3_5_piece_end(std::string_view text, std::size_t start) noexcept {
  constexpr CharClasses word = letter_classes | mark_classes;
  return piece_end<Variant{
      .word = word, .sign = ~(space_classes | word | number_classes), .max_digits = 1}>(text,
                                                                                        start);
}

}  // namespace weldlm
