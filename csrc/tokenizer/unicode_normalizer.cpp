#include "tokenizer/unicode_normalizer.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "tokenizer/canonical_order.hpp"
#include "tokenizer/char_properties.hpp"
#include "tokenizer/code_points.hpp"

namespace weldlm {
namespace {

constexpr std::size_t nowhere = std::string_view::npos;

// The end of the ASCII that begins at `pos`.
std::size_t ascii_end(std::string_view text, std::size_t pos) noexcept {
  for (; pos + 8 <= text.size(); pos += 8) {
    std::uint64_t bytes;
    std::memcpy(&bytes, text.data() + pos, 8);
    if ((bytes & 0x8080808080808080u) != 0) break;
  }
  while (pos < text.size() && static_cast<unsigned char>(text[pos]) < 0x80) ++pos;
  return pos;
}

std::uint8_t combining_class(const NormalizedChar& c) noexcept {
  return properties_of(c.value).combining_class();
}

// Joins each starter with what composes with it and is not blocked by what is between them.
void compose(std::vector<NormalizedChar>& chars) {
  std::size_t starter = nowhere;
  std::size_t size = 0;
  std::uint8_t last_class = 0;  // of what is kept behind the starter; 0: nothing is
  for (const NormalizedChar& c : chars) {
    const std::uint8_t own_class = combining_class(c);
    if (starter != nowhere && (last_class == 0 || last_class < own_class)) {
      if (const auto composed = composition(chars[starter].value, c.value)) {
        chars[starter] = {*composed, chars[starter].num_replaced + c.num_replaced};
        continue;
      }
    }
    if (own_class == 0) starter = size;
    last_class = own_class;
    chars[size++] = c;
  }
  chars.resize(size);
}

}  // namespace

NormalizationForm find_form(std::string_view name) {
  if (name == "NFC") return NormalizationForm::nfc;
  if (name == "NFD") return NormalizationForm::nfd;
  if (name == "NFKC") return NormalizationForm::nfkc;
  if (name == "NFKD") return NormalizationForm::nfkd;
  throw std::invalid_argument("no normalization form is called '" + std::string(name) +
                              "'; expected NFC, NFD, NFKC or NFKD");
}

struct UnicodeNormalizer::Run {
  std::vector<NormalizedChar> chars;
  std::vector<ByteRange> sources;  // of each code point
  std::string bytes;
};

UnicodeNormalizer::UnicodeNormalizer(NormalizationForm form)
    : is_compatible_(form == NormalizationForm::nfkc || form == NormalizationForm::nfkd),
      is_composed_(form == NormalizationForm::nfc || form == NormalizationForm::nfkc) {
  constexpr std::array<std::uint32_t, 4> changes = {nfc_changes, nfd_changes, nfkc_changes,
                                                    nfkd_changes};
  changes_ = changes[static_cast<std::size_t>(form)];
  joins_ = is_compatible_ ? compatible_joins : canonical_joins;
}

void UnicodeNormalizer::normalize(const NormalizedText& source, bool,
                                  NormalizedText& result) const {
  result.restart(source);
  const std::string_view text = source.text();
  Run run;
  std::size_t copied = 0;
  std::size_t previous = nowhere;  // a character that the one at `pos` may join
  for (std::size_t pos = 0; pos < text.size();) {
    const std::size_t end = ascii_end(text, pos);
    if (end > pos) {
      previous = end - 1;
      pos = end;
      continue;
    }
    const auto [value, size] = code_point_at(text, pos);
    const CharProperties properties{value == no_code_point ? 0 : properties_of(value).word};
    if (!properties.has(changes_ | joins_)) {
      previous = value == no_code_point ? nowhere : pos;
      pos += size;
      continue;
    }
    const bool has_previous = properties.has(joins_) && previous != nowhere;
    const std::size_t begin = has_previous ? previous : pos;
    pos = run_end(text, pos + size);
    result.copy(source, copied, begin);
    normalize_run(source, {begin, pos}, run, result);
    copied = pos;
    previous = nowhere;
  }
  result.copy(source, copied, text.size());
}

// The first character from `start` on that nothing before it can reach.
std::size_t UnicodeNormalizer::run_end(std::string_view text, std::size_t start) const noexcept {
  while (start < text.size()) {
    const auto [value, size] = code_point_at(text, start);
    if (value == no_code_point || !properties_of(value).has(joins_)) break;
    start += size;
  }
  return start;
}

void UnicodeNormalizer::normalize_run(const NormalizedText& source, ByteRange range, Run& run,
                                      NormalizedText& result) const {
  run.chars.clear();
  run.sources.clear();
  for (std::size_t pos = range.begin; pos < range.end;) {
    const auto [value, size] = code_point_at(source.text(), pos);
    if (is_compatible_) {
      append_compatible_parts(value, run.chars);
    } else {
      append_canonical_parts(value, run.chars);
    }
    run.sources.push_back({pos, pos + size});
    pos += size;
  }
  order_marks(run.chars);
  if (is_composed_) compose(run.chars);

  std::size_t used = 0;
  for (const auto& [value, num_replaced] : run.chars) {
    // what stands for several has the place of the first, what stands for none that of the last
    const ByteRange& place = run.sources[num_replaced > 0 ? used : used - (used > 0 ? 1 : 0)];
    used += static_cast<std::size_t>(num_replaced);
    run.bytes.clear();
    append_utf8(value, run.bytes);
    result.replace(source, place.begin, place.end, run.bytes);
  }
}

void Lowercase::normalize(const NormalizedText& source, bool, NormalizedText& result) const {
  result.restart(source);
  const std::string_view text = source.text();
  std::string bytes;
  for (std::size_t pos = 0; pos < text.size();) {
    const std::size_t end = ascii_end(text, pos);
    if (end > pos) {
      bytes.assign(text, pos, end - pos);
      for (char& byte : bytes) {
        if (byte >= 'A' && byte <= 'Z') byte = static_cast<char>(byte | 0x20);
      }
      result.substitute(source, pos, bytes);
      pos = end;
      continue;
    }
    const auto [value, size] = code_point_at(text, pos);
    const auto parts = value == no_code_point ? std::span<const char32_t>() : lowered(value);
    if (parts.empty()) {
      result.copy(source, pos, pos + size);
    } else {
      bytes.clear();
      for (const char32_t part : parts) append_utf8(part, bytes);
      result.replace(source, pos, pos + size, bytes);
    }
    pos += size;
  }
}

void StripAccents::normalize(const NormalizedText& source, bool, NormalizedText& result) const {
  result.restart(source);
  const std::string_view text = source.text();
  std::size_t copied = 0;
  for (std::size_t pos = ascii_end(text, 0); pos < text.size(); pos = ascii_end(text, pos)) {
    const auto [value, size] = code_point_at(text, pos);
    if (value != no_code_point && properties_of(value).has(mark_char)) {
      result.copy(source, copied, pos);
      copied = pos + size;
    }
    pos += size;
  }
  result.copy(source, copied, text.size());
}

}  // namespace weldlm
