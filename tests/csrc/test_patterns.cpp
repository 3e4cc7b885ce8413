// The scanners of the pattern families.
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "check.hpp"
#include "tokenizer/patterns.hpp"
#include "tokenizer/unicode.hpp"

namespace weldlm::test {
namespace {

std::vector<std::string> pieces(PieceEnd piece_end, std::string_view text) {
  std::vector<std::string> found;
  for (std::size_t start = 0; start < text.size();) {
    const std::size_t end = piece_end(text, start);
    check(end > start && end <= text.size(), "a piece is not empty and ends in the text");
    found.emplace_back(text.substr(start, end - start));
    start = end;
  }
  return found;
}

void check_pieces(PieceEnd piece_end, std::string_view text,
                  const std::vector<std::string>& expected,
                  std::source_location where = std::source_location::current()) {
  check(pieces(piece_end, text) == expected, text, where);
}

void splits_as_gpt2() {
  check_pieces(gpt2_piece_end, "", {});
  check_pieces(gpt2_piece_end, "Hello world", {"Hello", " world"});
  check_pieces(gpt2_piece_end, "we're it's I'll 'tis 'x",
               {"we", "'re", " it", "'s", " I", "'ll", " '", "tis", " '", "x"});
  check_pieces(gpt2_piece_end, "'street", {"'s", "treet"});
  check_pieces(gpt2_piece_end, "''s", {"''", "s"});
  check_pieces(gpt2_piece_end, "'l", {"'", "l"});
  check_pieces(gpt2_piece_end, "'r'", {"'", "r", "'"});
  check_pieces(gpt2_piece_end, "a1b2 34!?", {"a", "1", "b", "2", " 34", "!?"});
  check_pieces(gpt2_piece_end, "a   b", {"a", "  ", " b"});
  check_pieces(gpt2_piece_end, "a  \n", {"a", "  \n"});
  check_pieces(gpt2_piece_end, "a\n\nb", {"a", "\n", "\n", "b"});
  check_pieces(gpt2_piece_end, "a\n b", {"a", "\n", " b"});
  check_pieces(gpt2_piece_end, " \xC2\xA0 x", {" \xC2\xA0", " x"});
  check_pieces(gpt2_piece_end, " \xE2\x80\x83x", {" ", "\xE2\x80\x83", "x"});
  check_pieces(gpt2_piece_end, "e\xCC\x81", {"e", "\xCC\x81"});
  check_pieces(gpt2_piece_end, " \xC3\xA9t\xC3\xA9\xE4\xB8\xAD",
               {" \xC3\xA9t\xC3\xA9\xE4\xB8\xAD"});
}

void splits_as_cl100k() {
  check_pieces(cl100k_piece_end, "I'LL go'\xC5\xBF", {"I", "'LL", " go", "'\xC5\xBF"});
  check_pieces(cl100k_piece_end, "1234567 89", {"123", "456", "7", " ", "89"});
  check_pieces(cl100k_piece_end, "!word ?!\r\n\nx", {"!word", " ?!\r\n\n", "x"});
  check_pieces(cl100k_piece_end, "a \n \n  b", {"a", " \n \n", " ", " b"});
  check_pieces(cl100k_piece_end, "\tx\ny", {"\tx", "\n", "y"});
  check_pieces(cl100k_piece_end, "a \n  ", {"a", " \n  "});
  check_pieces(cl100k_piece_end, "e\xCC\x81t", {"e", "\xCC\x81t"});
}

void splits_as_its_variants() {
  check_pieces(llama3_piece_end, "1234 a \n  ", {"123", "4", " a", " \n", "  "});
  check_pieces(qwen2_piece_end, "12 a'S", {"1", "2", " a", "'S"});
  check_pieces(qwen3_5_piece_end, "e\xCC\x81t !\xCC\x81", {"e\xCC\x81t", " !", "\xCC\x81"});
}

void splits_as_o200k() {
  check_pieces(o200k_piece_end, "HTTPServer's", {"HTTPServer's"});
  check_pieces(o200k_piece_end, "helloWorld", {"hello", "World"});
  check_pieces(o200k_piece_end, "ABC'LL DEF", {"ABC'LL", " DEF"});
  check_pieces(o200k_piece_end,
               "\xE4\xB8\xAD"
               "ABC!",
               {"\xE4\xB8\xAD", "ABC", "!"});
  check_pieces(o200k_piece_end,
               "\xCC\x81"
               "AB",
               {"\xCC\x81", "AB"});
  check_pieces(o200k_piece_end,
               "\xCC\x81"
               "ab",
               {"\xCC\x81"
                "ab"});
  check_pieces(o200k_piece_end, "!\xCC\x81!", {"!\xCC\x81", "!"});
  check_pieces(o200k_piece_end, "a//\n/b", {"a", "//\n/", "b"});
  check_pieces(o200k_piece_end, "1234", {"123", "4"});
  check_pieces(o200k_piece_end, "'s's", {"'s's"});
  check_pieces(tekken_piece_end, "it's 12", {"it", "'s", " ", "1", "2"});
}

void splits_digits() {
  check_pieces(smollm_piece_end, "a  12 b", {"a", "  ", "1", "2", " b"});
  check_pieces(smollm_piece_end, "!\xF0\x91\xB7\xA0", {"!", "\xF0\x91\xB7\xA0"});
  check_pieces(digits_piece_end, "a 12\xC2\xBD!", {"a ", "12\xC2\xBD", "!"});
  check_pieces(single_digits_piece_end, "a 12!", {"a ", "1", "2", "!"});
}

void splits_in_sequence() {
  const auto step = [](PieceEnd piece_end) {
    return std::make_shared<const PatternPretokenizer>(piece_end);
  };
  const PretokenizerSequence sequence({step(single_digits_piece_end), step(gpt2_piece_end)});
  std::mt19937 random(2);
  for (int round = 0; round < 5000; ++round) {
    const std::string text = random_text(random, any_bytes, 30);
    std::vector<std::string> found;
    std::vector<ByteRange> ranges;
    for (std::size_t start = 0; start < text.size();) start = sequence.split(text, start, ranges);
    for (const auto& [begin, end] : ranges) found.push_back(text.substr(begin, end - begin));
    check(found == pieces(smollm_piece_end, text), text);
  }
}

void knows_the_classes() {
  check(char_class(U'A') == CharClass::uppercase, "A is a large letter");
  check(char_class(0x01C5) == CharClass::titlecase, "U+01C5 is a title letter");
  check(char_class(0x02B0) == CharClass::modifier_letter, "U+02B0 modifies a letter");
  check(char_class(0x4E2D) == CharClass::other_letter, "an ideograph has no case");
  check(char_class(0x0301) == CharClass::mark, "an accent is a mark");
  check(char_class(0x0663) == CharClass::digit, "Arabic digits are digits");
  check(char_class(0x00BD) == CharClass::other_number, "one half is a number");
  check(char_class('$') == CharClass::symbol, "a currency is a symbol");
  check(char_class('!') == CharClass::punctuation, "a sign of exclamation");
  check(char_class(0x0378) == CharClass::unassigned, "U+0378 is no character");
  check(char_class(0x1C) == CharClass::other, "U+001C is not white space");
  check(char_class(0x85) == CharClass::space, "U+0085 is white space");
  check(char_class(0x10FFFF) == CharClass::unassigned, "the last code point is no letter");
  check(char_class(0x110000) == CharClass::other, "beyond the last code point is no letter");
}

void stays_inside_any_bytes(PieceEnd piece_end) {
  std::mt19937 random(1);
  for (int round = 0; round < 8000; ++round) {
    const std::string text = random_text(random, any_bytes, 12);
    // a buffer of exactly this size, so that a byte too far is seen
    const std::vector<char> buffer(text.begin(), text.end());
    std::string joined;
    for (const auto& piece : pieces(piece_end, {buffer.data(), buffer.size()})) joined += piece;
    check(joined == text, "pieces end to end are the text");
  }
}

}  // namespace
}  // namespace weldlm::test

int main() {
  weldlm::test::splits_as_gpt2();
  weldlm::test::splits_as_cl100k();
  weldlm::test::splits_as_its_variants();
  weldlm::test::splits_as_o200k();
  weldlm::test::splits_digits();
  weldlm::test::splits_in_sequence();
  weldlm::test::knows_the_classes();
  for (const std::string_view name : {"gpt2", "cl100k", "o200k", "llama3", "qwen2", "qwen3_5",
                                      "tekken", "smollm", "digits", "single_digits"}) {
    weldlm::test::stays_inside_any_bytes(weldlm::find_pattern(name));
  }
}
