#include "tokenizer/canonical_order.hpp"

#include <algorithm>
#include <span>

#include "tokenizer/char_properties.hpp"

namespace weldlm {
namespace {

void append_parts(char32_t code_point, std::span<const char32_t> parts,
                  std::vector<NormalizedChar>& chars) {
  if (is_hangul_syllable(code_point)) {
    const HangulParts hangul = hangul_parts(code_point);
    for (std::size_t i = 0; i < hangul.size; ++i) chars.push_back({hangul.parts[i], i == 0});
    return;
  }
  if (parts.empty()) chars.push_back({code_point, 1});
  for (std::size_t i = 0; i < parts.size(); ++i) chars.push_back({parts[i], i == 0});
}

std::uint8_t combining_class(const NormalizedChar& c) noexcept {
  return properties_of(c.value).combining_class();
}

}  // namespace

void append_canonical_parts(char32_t code_point, std::vector<NormalizedChar>& chars) {
  append_parts(code_point, canonical_parts(code_point), chars);
}

void append_compatible_parts(char32_t code_point, std::vector<NormalizedChar>& chars) {
  append_parts(code_point, compatible_parts(code_point), chars);
}

void order_marks(std::vector<NormalizedChar>& chars) {
  const auto is_starter = [](const NormalizedChar& c) { return combining_class(c) == 0; };
  for (auto begin = chars.begin(); begin != chars.end();) {
    begin = std::find_if_not(begin, chars.end(), is_starter);
    const auto end = std::find_if(begin, chars.end(), is_starter);
    if (end - begin > 1) {
      std::stable_sort(begin, end, [](const NormalizedChar& a, const NormalizedChar& b) {
        return combining_class(a) < combining_class(b);
      });
    }
    begin = end;
  }
}

}  // namespace weldlm
