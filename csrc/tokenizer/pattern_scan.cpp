#include "tokenizer/pattern_scan.hpp"

namespace weldlm {
namespace {

constexpr char lowered(char character) noexcept {
  return character >= 'A' && character <= 'Z' ? static_cast<char>(character + ('a' - 'A'))
                                              : character;
}

}  // namespace

std::size_t contraction_size(std::string_view text, std::size_t start) noexcept {
  const std::string_view rest = text.substr(start, 3);
  if (rest.size() < 2 || rest[0] != '\'') return 0;
  const char first = lowered(rest[1]);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if (rest.size() < 3) return 0;
  if (rest[1] == '\xC5' && rest[2] == '\xBF') return 3;
  const char second = lowered(rest[2]);
  if ((first == 'r' || first == 'v') && second == 'e') return 3;
  return first == 'l' && second == 'l' ? 3 : 0;
}

SpaceRun space_run(std::string_view text, std::size_t start) noexcept {
  SpaceRun run{start, start, start};
  while (run.end < text.size()) {
    const Char next = classify(text, run.end);
    if (next.kind != CharClass::space) break;
    run.last = run.end;
    run.end += next.size;
    if (is_newline(text[run.last])) run.after_newlines = run.end;
  }
  return run;
}

}  // namespace weldlm
