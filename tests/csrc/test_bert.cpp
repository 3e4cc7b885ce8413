// BERT's normalizer and pretokenizer, the Unicode forms, lower case: texts, origins, any bytes.
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "check.hpp"
#include "tokenizer/bert.hpp"
#include "tokenizer/unicode_normalizer.hpp"

namespace weldlm::test {
namespace {

std::string normalized(const Normalizer& normalizer, std::string_view text) {
  NormalizedText result;
  normalizer.normalize(NormalizedText(text, Origins::none), true, result);
  return std::string(result.text());
}

std::vector<std::shared_ptr<Normalizer>> all_normalizers() {
  std::vector<std::shared_ptr<Normalizer>> all;
  for (unsigned bits = 0; bits < 16; ++bits) {
    all.push_back(std::make_shared<BertNormalizer>(
        BertNormalizerOptions{(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0, (bits & 8) != 0}));
  }
  for (const std::string_view form : {"NFC", "NFD", "NFKC", "NFKD"}) {
    all.push_back(std::make_shared<UnicodeNormalizer>(find_form(form)));
  }
  all.push_back(std::make_shared<Lowercase>());
  all.push_back(std::make_shared<StripAccents>());
  return all;
}

// Marks that move, letters that fall into parts or join, and what is broken.
constexpr std::string_view changing_bytes[] = {"A",
                                               "b",
                                               " ",
                                               "\t",
                                               "\x01",
                                               "\xC3\xA9",
                                               "\xCC\x81",
                                               "\xCC\xA3",
                                               "\xCC\xB4",
                                               "\xE0\xBD\xB3",
                                               "\xE1\xAF\xB2",
                                               "\xF0\x9D\x85\x9F",
                                               "\xEA\xB0\x80",
                                               "\xE1\x84\x80",
                                               "\xE1\x85\xA1",
                                               "\xE1\x86\xA8",
                                               "\xEF\xA4\x80",
                                               "\xEF\xAC\x83",
                                               "\xEF\xBE\x9E",
                                               "\xC4\xB0",
                                               "\xEF\xBF\xBD",
                                               "\xC2\xAD",
                                               "\xE3\x80\x80",
                                               "\xE4\xB8\xAD",
                                               "\x80",
                                               "\xC3",
                                               "\xE4\xB8",
                                               "\xF0\x9F\x98",
                                               "\xF5\x80\x80\x80",
                                               "\xED\xA0\x80",
                                               "\xF4\x90\x80\x80",
                                               std::string_view("\0", 1)};

void normalizes_as_bert_does() {
  const BertNormalizer uncased({true, true, true, true});
  check(normalized(uncased, "H\xC3\xA9LLO\tW\xC3\x96rld\x01!") == "hello world!", "uncased");
  check(normalized(uncased,
                   "a\xE4\xB8\xAD"
                   "b") == "a \xE4\xB8\xAD b",
        "Chinese characters");
  check(normalized(uncased, "\xC4\xB0\xCE\xA3") == "i\xCF\x83", "lower case of one character");
  const std::string ascii(100, 'Q');
  check(normalized(uncased, ascii + "\r\n" + ascii) ==
            std::string(100, 'q') + "  " + std::string(100, 'q'),
        "long ASCII");
  const BertNormalizer cased({true, true, false, false});
  check(normalized(cased, "H\xC3\xA9\xEF\xBF\xBD") == "H\xC3\xA9", "cased");
}

void normalizes_to_the_forms() {
  const auto form = [](std::string_view name, std::string_view text) {
    return normalized(UnicodeNormalizer(find_form(name)), text);
  };
  check(form("NFC", "e\xCC\x81 \xC3\xA9") == "\xC3\xA9 \xC3\xA9", "NFC composes");
  check(form("NFD", "\xE1\xB9\xA9") == "s\xCC\xA3\xCC\x87", "NFD orders");
  check(form("NFC", "\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8") == "\xEA\xB0\x81", "Hangul composes");
  check(form("NFKC", "\xEF\xAC\x83\xEF\xBD\xB6\xEF\xBE\x9E") == "ffi\xE3\x82\xAC", "NFKC");
  check(holds(refusal([] { find_form("NFX"); }), "no normalization form"), "unknown form");
}

void origins_are_those_of_the_characters() {
  NormalizedText result;
  const std::string text = "\xC3\x89\x01\xE4\xB8\xAD";
  BertNormalizer({true, true, true, true})
      .normalize(NormalizedText(text, Origins::whole), true, result);

  check(result.text() == "e \xE4\xB8\xAD ", "the text");
  check(result.origin(0, 1) == ByteRange{0, 2}, "a letter stands for its accent too");
  check(result.origin(1, 5) == ByteRange{3, 6},
        "spaces stand for the character they are put around");
}

void stays_inside_any_bytes() {
  std::mt19937 random(5);
  const auto normalizers = all_normalizers();
  for (int round = 0; round < 3000; ++round) {
    const std::string text = random_text(random, changing_bytes, 10);
    for (const auto& normalizer : normalizers) {
      NormalizedText result;
      normalizer->normalize(NormalizedText(text, Origins::whole), true, result);
      check(result.text() == normalized(*normalizer, text), "origins do not change the text");
      for (std::size_t i = 0; i < result.text().size(); ++i) {
        const ByteRange place = result.origin(i, i + 1);
        check(place.begin < place.end && place.end <= text.size(), "origins lie in the text");
      }
    }
  }
}

std::vector<std::string> pieces(std::string_view text) {
  std::vector<std::string> found;
  std::vector<ByteRange> ranges;
  for (std::size_t start = 0; start < text.size();) {
    ranges.clear();
    start = BertPretokenizer().split(text, start, ranges);
    for (const auto& [begin, end] : ranges) found.emplace_back(text.substr(begin, end - begin));
  }
  return found;
}

void splits_at_white_space_and_punctuation() {
  using Pieces = std::vector<std::string>;
  check(pieces("") == Pieces{}, "nothing");
  check(pieces(" \n") == Pieces{}, "white space alone");
  check(pieces("don't  stop!!") == Pieces({"don", "'", "t", "stop", "!", "!"}), "ASCII");
  check(pieces("a\xE3\x80\x80"
               "b\xE2\x80\x94"
               "c") == Pieces({"a", "b", "\xE2\x80\x94", "c"}),
        "Unicode");
  check(pieces("$x^y`") == Pieces({"$", "x", "^", "y", "`"}), "ASCII symbols count");
  const std::string many(2000, '.');
  check(pieces(many).size() == 2000, "batches go on where they ended");
}

void pieces_stay_inside_any_bytes() {
  std::mt19937 random(6);
  for (int round = 0; round < 20000; ++round) {
    const std::string text = random_text(random, changing_bytes, 10);
    const std::vector<char> buffer(text.begin(), text.end());
    std::size_t size = 0;
    for (const auto& piece : pieces({buffer.data(), buffer.size()})) size += piece.size();
    check(size <= text.size(), "pieces do not overlap");
  }
}

}  // namespace
}  // namespace weldlm::test

int main() {
  weldlm::test::normalizes_as_bert_does();
  weldlm::test::normalizes_to_the_forms();
  weldlm::test::origins_are_those_of_the_characters();
  weldlm::test::stays_inside_any_bytes();
  weldlm::test::splits_at_white_space_and_punctuation();
  weldlm::test::pieces_stay_inside_any_bytes();
}
