// The scanner of the GPT-2 pattern.
#include <string>
#include <string_view>
#include <vector>

#include "check.hpp"
#include "tokenizer/patterns.hpp"
#include "tokenizer/unicode.hpp"

namespace weldlm::test {
namespace {

std::vector<std::string> pieces(std::string_view text) {
  std::vector<std::string> found;
  for (std::size_t start = 0; start < text.size();) {
    const std::size_t end = gpt2_piece_end(text, start);
    check(end > start && end <= text.size(), "a piece is not empty and ends in the text");
    found.emplace_back(text.substr(start, end - start));
    start = end;
  }
  return found;
}

void check_pieces(std::string_view text, const std::vector<std::string>& expected,
                  std::source_location where = std::source_location::current()) {
  check(pieces(text) == expected, text, where);
}

void splits_as_the_pattern_says() {
  check_pieces("", {});
  check_pieces("Hello world", {"Hello", " world"});
  check_pieces("we're it's I'll 'tis 'x",
               {"we", "'re", " it", "'s", " I", "'ll", " '", "tis", " '", "x"});
  check_pieces("'street", {"'s", "treet"});
  check_pieces("''s", {"''", "s"});
  check_pieces("'l", {"'", "l"});
  check_pieces("'r'", {"'", "r", "'"});
  check_pieces("a1b2 34!?", {"a", "1", "b", "2", " 34", "!?"});
  check_pieces("a   b", {"a", "  ", " b"});
  check_pieces("a  \n", {"a", "  \n"});
  check_pieces("a\n\nb", {"a", "\n", "\n", "b"});
  check_pieces("a\n b", {"a", "\n", " b"});
  check_pieces(" \xC2\xA0 x", {" \xC2\xA0", " x"});
  check_pieces(" \xE2\x80\x83x", {" ", "\xE2\x80\x83", "x"});
  check_pieces("e\xCC\x81", {"e", "\xCC\x81"});
  check_pieces(" \xC3\xA9t\xC3\xA9\xE4\xB8\xAD", {" \xC3\xA9t\xC3\xA9\xE4\xB8\xAD"});
}

void knows_the_classes() {
  check(char_class(U'A') == CharClass::letter, "A is a letter");
  check(char_class(0x00BD) == CharClass::number, "one half is a number");
  check(char_class(0x1C) == CharClass::other, "U+001C is not white space");
  check(char_class(0x85) == CharClass::space, "U+0085 is white space");
  check(char_class(0x10FFFF) == CharClass::other, "the last code point is no letter");
  check(char_class(0x110000) == CharClass::other, "beyond the last code point is no letter");
}

void stays_inside_any_bytes() {
  std::mt19937 random(1);
  for (int round = 0; round < 20000; ++round) {
    const std::string text = random_text(random, any_bytes, 12);
    // a buffer of exactly this size, so that a byte too far is seen
    const std::vector<char> buffer(text.begin(), text.end());
    std::string joined;
    for (const auto& piece : pieces({buffer.data(), buffer.size()})) joined += piece;
    check(joined == text, "pieces end to end are the text");
  }
}

}  // namespace
}  // namespace weldlm::test

int main() {
  weldlm::test::splits_as_the_pattern_says();
  weldlm::test::knows_the_classes();
  weldlm::test::stays_inside_any_bytes();
}
