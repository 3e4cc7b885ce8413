#include "tokenizer/patterns.hpp"

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

#include "tokenizer/unicode.hpp"

namespace weldlm {
namespace {

// Classes of the ASCII bytes; a byte above them asks for a decoded character.
constexpr std::uint8_t not_ascii = 4;

constexpr std::array<std::uint8_t, 256> make_byte_classes() {
  std::array<std::uint8_t, 256> classes{};
  for (std::size_t byte = 0; byte < 128; ++byte) {
    classes[byte] = (unicode_tables::class_words[unicode_tables::block_of[0] * 8 + byte / 32] >>
                     (byte % 32 * 2)) &
                    3;
  }
  for (std::size_t byte = 128; byte < 256; ++byte) classes[byte] = not_ascii;
  return classes;
}

constexpr auto byte_classes = make_byte_classes();

std::uint8_t byte_class(std::string_view text, std::size_t pos) noexcept {
  return byte_classes[static_cast<unsigned char>(text[pos])];
}

Char classify(std::string_view text, std::size_t pos) noexcept {
  const std::uint8_t kind = byte_class(text, pos);
  if (kind != not_ascii) return {static_cast<CharClass>(kind), 1};
  return char_at(text, pos);
}

// The first position from `pos` on whose character is not of class `kind`.
std::size_t skip_class(std::string_view text, std::size_t pos, CharClass kind) noexcept {
  const auto wanted = static_cast<std::uint8_t>(kind);
  while (pos < text.size()) {
    const std::uint8_t found = byte_class(text, pos);
    if (found == wanted) {
      ++pos;
      continue;
    }
    if (found != not_ascii) return pos;
    const Char next = char_at(text, pos);
    if (next.kind != kind) return pos;
    pos += next.size;
  }
  return pos;
}

// Bytes of 's 't 'm 'd 're 've 'll at `start`, which holds the apostrophe; 0 if none is there.
std::size_t contraction_size(std::string_view text, std::size_t start) noexcept {
  if (start + 1 >= text.size()) return 0;
  const char first = text[start + 1];
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if (start + 2 >= text.size()) return 0;
  const char second = text[start + 2];
  if ((first == 'r' || first == 'v') && second == 'e') return 3;
  return first == 'l' && second == 'l' ? 3 : 0;
}

// \s+(?!\S)|\s+ : a run of white space leaves its last character to what follows it, unless the
// run is that one character or nothing follows.
std::size_t space_run_end(std::string_view text, std::size_t start) noexcept {
  std::size_t last = start;
  std::size_t end = start;
  while (end < text.size()) {
    const Char next = classify(text, end);
    if (next.kind != CharClass::space) break;
    last = end;
    end += next.size;
  }
  return end == text.size() || last == start ? end : last;
}

constexpr std::array<std::pair<std::string_view, PieceEnd>, 1> families{{
    {"gpt2", gpt2_piece_end},
}};

}  // namespace

std::size_t gpt2_piece_end(std::string_view text, std::size_t start) noexcept {
  if (text[start] == '\'') {
    const std::size_t size = contraction_size(text, start);
    if (size != 0) return start + size;
  }
  const Char first = classify(text, start);
  if (first.kind != CharClass::space) return skip_class(text, start + first.size, first.kind);
  if (text[start] == ' ' && start + 1 < text.size()) {
    const Char next = classify(text, start + 1);
    if (next.kind != CharClass::space) {
      return skip_class(text, start + 1 + next.size, next.kind);
    }
  }
  return space_run_end(text, start);
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
