// The rules of a precompiled charsmap, and blobs with damage.
#include <memory>
#include <string>
#include <vector>

#include "charsmap_blob.hpp"
#include "check.hpp"
#include "tokenizer/charsmap.hpp"
#include "tokenizer/spiece_normalizer.hpp"
#include "tokenizer/text_rewriters.hpp"

namespace weldlm::test {
namespace {

std::string normalized(const std::string& blob, std::string_view text) {
  const SpieceNormalizer normalizer(std::make_shared<Charsmap>(blob), {true, true, true, false},
                                    {"ba"});
  NormalizedText result;
  normalizer.normalize(NormalizedText(text, Origins::whole), true, result);
  check(!result.has_origins() || result.origin(0, result.text().size()).end <= text.size(),
        "origins are in the text");
  return std::string(result.text());
}

void the_longest_rule_holds() {
  const std::string blob = small_blob();
  const Charsmap charsmap(blob);
  check(charsmap.longest("abc")->replacement == "yz", "longest");
  check(charsmap.shortest("abc")->replacement == "x", "shortest");
  check(!charsmap.longest("cab"), "none");
  check(charsmap.is_plain('c') && !charsmap.is_plain('a'), "plain bytes");
  check(normalized(blob, " ac  bb ba") ==
            "\xE2\x96\x81xc\xE2\x96\x81"
            "ba",
        "b goes, ba stays");
  check(normalized(blob, "  b ") == "\xE2\x96\x81" || normalized(blob, "  b ").empty(), "nothing");
}

void origins_are_what_the_text_came_from() {
  const SpieceNormalizer normalizer(std::make_shared<Charsmap>(small_blob()),
                                    {true, true, true, false}, {});
  NormalizedText result;
  normalizer.normalize(NormalizedText("  cbb  d ", Origins::whole), true, result);
  check(result.text() ==
            "\xE2\x96\x81"
            "c"
            "\xE2\x96\x81"
            "d",
        "the text");
  check(result.origin(0, 3) == ByteRange{2, 2}, "the prefix is nowhere");
  check(result.origin(3, 4) == ByteRange{2, 5}, "what is dropped belongs to what is before it");
  check(result.origin(4, 7) == ByteRange{5, 7}, "spaces");
  check(result.origin(7, 8) == ByteRange{7, 8}, "the last character");
}

void shown_places_are_in_the_text() {
  constexpr std::string_view parts[] = {"a", "b", "c", "abc", "bb", "\xCC\x81", "\xC3\xA9", " "};
  const Precompiled normalizer(std::make_shared<Charsmap>(small_blob()));
  std::mt19937 random(32);
  for (int round = 0; round < 5000; ++round) {
    const std::string text = random_text(random, parts, 12);
    NormalizedText plain;
    NormalizedText shown;
    normalizer.normalize(NormalizedText(text, Origins::none), true, plain);
    normalizer.normalize(NormalizedText(text, Origins::offsets), true, shown);
    check(shown.text() == plain.text(), "the same text");
    for (std::size_t i = 0; i < shown.text().size(); ++i) {
      const ByteRange place = shown.origin(i, i + 1);
      check(place.begin <= place.end && place.end <= text.size(), "a place of the text");
    }
  }
}

void damage_is_refused_or_harmless() {
  const std::string blob = small_blob();
  std::mt19937 random(31);
  int num_refused = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string damaged = blob.substr(0, round % 4 == 0 ? random() % blob.size() : blob.size());
    // half of the damage hits the units that are in use
    const std::size_t places[] = {random() % blob.size(), 4,
                                  4 + 4 * (256 ^ 'a'),    4 + 4 * 512,
                                  4 + 4 * (512 ^ 'b'),    4 + 4 * 768};
    const std::size_t at = places[random() % 6] + random() % 4;
    if (at < damaged.size()) damaged[at] = static_cast<char>(random());
    const std::string message = refusal([&] {
      // a buffer of exactly this size, so that a byte too far is seen
      const std::vector<char> buffer(damaged.begin(), damaged.end());
      const Charsmap charsmap({buffer.data(), buffer.size()});
      for (const std::string_view text : {"abc", "ba", "aab", "\xFF", ""}) {
        static_cast<void>(charsmap.longest(text));
        static_cast<void>(charsmap.shortest(text));
      }
    });
    const bool is_refused = message != "nothing was refused";
    check(!is_refused || holds(message, "charsmap is damaged"), message);
    num_refused += is_refused ? 1 : 0;
  }
  check(num_refused > 5000, "damage is found");
}

void a_long_replacement_is_refused() {
  const std::string end = "x" + std::string(1000, 'y') + std::string(1, '\0');
  const std::string blob = small_blob();
  const std::size_t tail = blob.size() - 6;
  const Charsmap charsmap(blob.substr(0, tail) + end.substr(1));
  check(charsmap.shortest("a")->replacement.size() == 1000, "the longest one that is taken");
  const auto build = [&] { static_cast<void>(Charsmap(blob.substr(0, tail) + end)); };
  check(holds(refusal(build),
              "the value of unit 512 is 0, which is not a replacement of at most "
              "1000 bytes in 1002 bytes"),
        "one byte more");
}

void any_bytes_are_normalized() {
  std::mt19937 random(32);
  for (int round = 0; round < 300; ++round) {
    static_cast<void>(normalized(small_blob(), random_text(random, any_bytes, 20)));
  }
}

}  // namespace
}  // namespace weldlm::test

int main() {
  weldlm::test::the_longest_rule_holds();
  weldlm::test::origins_are_what_the_text_came_from();
  weldlm::test::shown_places_are_in_the_text();
  weldlm::test::damage_is_refused_or_harmless();
  weldlm::test::a_long_replacement_is_refused();
  weldlm::test::any_bytes_are_normalized();
}
