// Finding added tokens in text.
#include <optional>
#include <string>
#include <vector>

#include "check.hpp"
#include "tokenizer/added_tokens.hpp"

namespace weldlm::test {
namespace {

const std::vector<AddedToken> tokens = {
    {"<|a|>", 0, true, false},
    {"<|a|><|b|>", 1, true, false},
    {"<|b|>", 2, true, false},
    {"b|", 3, false, true, false, false, false, "b|"},
    {"|>", 4, true, true, false, false, false, "|>"},
};

// The leftmost and of those the longest, by trying every token at every place.
std::optional<AddedTokens::Match> find_by_definition(std::string_view text, std::size_t start,
                                                     AddedTokens::Pass pass,
                                                     const TokenMask& mask) {
  for (std::size_t begin = start; begin < text.size(); ++begin) {
    std::optional<AddedTokens::Match> longest;
    for (std::size_t index = 0; index < tokens.size(); ++index) {
      const std::string& content = tokens[index].content;
      if (!mask[index] || tokens[index].is_normalized != (pass == AddedTokens::normalized_pass))
        continue;
      if (text.substr(begin, content.size()) != content) continue;
      if (longest && longest->end - begin >= content.size()) continue;
      longest = AddedTokens::Match{begin, begin + content.size(), index, begin};
    }
    if (longest) return longest;
  }
  return std::nullopt;
}

void finds_by_definition() {
  constexpr std::string_view alphabet[] = {"<", "|", "a", "b", ">", "<|a|>", "<|b|>", "\xC3"};
  const AddedTokens added(tokens);
  std::mt19937 random(5);
  for (int round = 0; round < 20000; ++round) {
    const std::string text = random_text(random, alphabet, 12);
    TokenMask mask(tokens.size());
    for (std::size_t i = 0; i < mask.size(); ++i) mask[i] = random() % 2 == 0;
    const std::size_t start = random() % (text.size() + 1);
    const auto pass = random() % 2 == 0 ? AddedTokens::raw_pass : AddedTokens::normalized_pass;
    const auto found = added.find(text, start, pass, mask);
    const auto expected = find_by_definition(text, start, pass, mask);
    check(found.has_value() == expected.has_value(), text);
    if (!found) continue;
    check(found->begin == expected->begin && found->index == expected->index, text);
  }
}

void masks_hold_what_is_asked() {
  const AddedTokens added(tokens);
  const std::vector<std::uint32_t> ids = {2, 3, 99};
  check(added.mask_of(ids) == TokenMask{false, false, true, false, false}, "special ones alone");
  check(added.mask_with(ids) == TokenMask{false, false, true, true, false}, "and ordinary ones");
}

void refuses_by_name() {
  const AddedTokens added(tokens);
  const std::vector<std::uint32_t> ids = {2};
  const auto refuse = [&] { added.refuse("x<|b|>", "text 7", added.mask_of(ids)); };
  check(holds(refusal(refuse), "text 7 contains the special token '<|b|>' at byte 1"), "message");
  const auto make_twice = [] { AddedTokens({{"x", 0, true, false}, {"x", 1, true, false}}); };
  check(holds(refusal(make_twice), "'x' is given twice"), "a token twice");
  const auto make_alike = [] {
    AddedTokens({{"A", 0, true, true, false, false, false, "a"},
                 {"a", 1, true, true, false, false, false, "a"}});
  };
  check(holds(refusal(make_alike), "'a' is given twice, or normalized"), "two alike");
  const auto make_long = [] { AddedTokens({{std::string(257, 'x'), 0, true, false}}); };
  check(holds(refusal(make_long), "has 257 bytes"), "a long token");
}

}  // namespace
}  // namespace weldlm::test

int main() {
  weldlm::test::finds_by_definition();
  weldlm::test::masks_hold_what_is_asked();
  weldlm::test::refuses_by_name();
}
