// The rules of a precompiled charsmap, and blobs with damage.
#include <memory>
#include <string>
#include <vector>

#include "check.hpp"
#include "tokenizer/charsmap.hpp"
#include "tokenizer/spiece_normalizer.hpp"

namespace weldlm::test {
namespace {

constexpr std::size_t num_units = 1024;

// Rules a -> "x", ab -> "yz", b -> "", as a double array of four blocks.
std::string small_blob() {
  std::vector<std::uint32_t> units(num_units);
  const auto node = [](std::uint32_t at, std::uint32_t base, unsigned char label, bool has_value) {
    return (at ^ base) << 10 | (has_value ? 1u << 8 : 0u) | label;
  };
  units[0] = 256 << 10;
  const std::uint32_t a = 256 ^ 'a';
  const std::uint32_t b = 256 ^ 'b';
  units[a] = node(a, 512, 'a', true);
  units[512] = 1u << 31 | 0;
  units[512 ^ 'b'] = node(512 ^ 'b', 768, 'b', true);
  units[768] = 1u << 31 | 2;
  units[b] = node(b, 769, 'b', true);
  units[769] = 1u << 31 | 5;
  std::string blob;
  const auto append = [&](std::uint32_t word) {
    for (int shift = 0; shift < 32; shift += 8) blob.push_back(static_cast<char>(word >> shift));
  };
  append(num_units * 4);
  for (const std::uint32_t unit : units) append(unit);
  blob += std::string("x\0yz\0\0", 6);
  return blob;
}

std::string normalized(const std::string& blob, std::string_view text) {
  const SpieceNormalizer normalizer(std::make_shared<Charsmap>(blob), {true, true, true, false},
                                    {"ba"});
  NormalizedText result;
  normalizer.normalize(NormalizedText(text, true), true, result);
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
  normalizer.normalize(NormalizedText("  cbb  d ", true), true, result);
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
  weldlm::test::damage_is_refused_or_harmless();
  weldlm::test::any_bytes_are_normalized();
}
