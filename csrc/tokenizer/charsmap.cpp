#include "tokenizer/charsmap.hpp"

#include <algorithm>
#include <stdexcept>

#include "tokenizer/code_points.hpp"

namespace weldlm {
namespace {

// A unit of Darts-clone. One that is not a value: label in bits 0 to 7, has_value in bit 8, and an
// offset in bits 10 to 30, in units of 256 where bit 9 is set.
constexpr std::uint32_t is_value_bit = std::uint32_t{1} << 31;

// Of what stands for a character: more would let short texts fill the memory.
constexpr std::size_t max_replacement_bytes = 1000;

std::uint32_t offset_of(std::uint32_t unit) noexcept {
  return (unit >> 10) << ((unit & (1u << 9)) >> 6);
}

bool has_value(std::uint32_t unit) noexcept { return (unit >> 8 & 1) != 0; }

std::uint32_t label_of(std::uint32_t unit) noexcept { return unit & (is_value_bit | 0xFF); }

std::uint32_t word_at(std::string_view blob, std::size_t pos) noexcept {
  std::uint32_t word = 0;
  for (std::size_t i = 4; i-- > 0;) {
    word = word << 8 | static_cast<unsigned char>(blob[pos + i]);
  }
  return word;
}

bool is_valid_utf8(std::string_view text) noexcept {
  constexpr char32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
  for (std::size_t pos = 0; pos < text.size();) {
    const auto [value, size] = code_point_at(text, pos);
    const bool is_surrogate = value >= 0xD800 && value < 0xE000;
    if (value == no_code_point || value < smallest[size] || is_surrogate) return false;
    pos += size;
  }
  return true;
}

[[noreturn]] void refuse(const std::string& what) {
  throw std::invalid_argument("the precompiled charsmap is damaged: " + what);
}

}  // namespace

Charsmap::Charsmap(std::string_view blob) : blob_(blob) {
  read(blob_);
  check_units();
  find_plain_bytes();
}

void Charsmap::read(std::string_view blob) {
  if (blob.size() < 4) {
    refuse(std::to_string(blob.size()) + " bytes, expected at least 4 of a size");
  }
  const std::size_t size = word_at(blob, 0);
  if (size > blob.size() - 4 || size % 4 != 0 || size == 0) {
    refuse("a double array of " + std::to_string(size) + " bytes in " +
           std::to_string(blob.size()) + "; expected a multiple of 4 that fits");
  }
  units_.reserve(size / 4);
  for (std::size_t pos = 4; pos < 4 + size; pos += 4) units_.push_back(word_at(blob, pos));
  replacements_ = blob.substr(4 + size);
}

// Follows every edge once; units may be shared.
void Charsmap::check_units() const {
  std::vector<bool> is_seen(units_.size());
  std::vector<std::uint32_t> pending{0};
  while (!pending.empty()) {
    const std::uint32_t node = pending.back();
    pending.pop_back();
    const std::uint32_t base = node ^ offset_of(units_[node]);
    if ((base | 0xFF) >= units_.size()) {
      refuse("unit " + std::to_string(node) + " leads to unit " + std::to_string(base | 0xFF) +
             " of " + std::to_string(units_.size()));
    }
    if (node != 0 && has_value(units_[node])) check_replacement(base);
    for (std::uint32_t byte = 1; byte < 256; ++byte) {
      const std::uint32_t next = child(base, static_cast<unsigned char>(byte));
      if (next == none || is_seen[next]) continue;
      is_seen[next] = true;
      pending.push_back(next);
    }
  }
}

void Charsmap::check_replacement(std::uint32_t unit) const {
  const std::size_t begin = units_[unit] & ~is_value_bit;
  const std::string_view rest =
      replacements_.substr(std::min(begin, replacements_.size()), max_replacement_bytes + 1);
  const std::size_t size = rest.find('\0');
  if ((units_[unit] & is_value_bit) == 0 || size == std::string_view::npos) {
    refuse("the value of unit " + std::to_string(unit) + " is " + std::to_string(begin) +
           ", which is not a replacement of at most " + std::to_string(max_replacement_bytes) +
           " bytes in " + std::to_string(replacements_.size()) + " bytes");
  }
  const std::string_view text = rest.substr(0, size);
  if (!is_valid_utf8(text)) {
    refuse("the replacement at byte " + std::to_string(begin) + " is not UTF-8");
  }
}

void Charsmap::find_plain_bytes() {
  const std::uint32_t base = offset_of(units_[0]);
  for (std::uint32_t first = 0; first < 0x80; ++first) {
    const std::uint32_t node = child(base, static_cast<unsigned char>(first));
    is_plain_[first] = node == none || first == 0;
    if (is_plain_[first]) continue;
    bool is_plain = !has_value(units_[node]);
    const std::uint32_t next = node ^ offset_of(units_[node]);
    for (std::uint32_t second = 1; second < 0x80; ++second) {
      is_plain = is_plain && child(next, static_cast<unsigned char>(second)) == none;
    }
    is_plain_[first] = is_plain;
  }
}

std::uint32_t Charsmap::child(std::uint32_t base, unsigned char byte) const noexcept {
  const std::uint32_t next = base ^ byte;
  return byte != 0 && label_of(units_[next]) == byte ? next : none;
}

Charsmap::Match Charsmap::match(std::size_t size, std::uint32_t base) const noexcept {
  const std::string_view rest = replacements_.substr(units_[base] & ~is_value_bit);
  return {size, rest.substr(0, rest.find('\0'))};
}

std::optional<Charsmap::Match> Charsmap::longest(std::string_view text) const noexcept {
  std::uint32_t base = offset_of(units_[0]);
  std::size_t size = 0;
  std::uint32_t found = none;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::uint32_t node = child(base, static_cast<unsigned char>(text[i]));
    if (node == none) break;
    base = node ^ offset_of(units_[node]);
    if (!has_value(units_[node])) continue;
    size = i + 1;
    found = base;
  }
  if (found == none) return std::nullopt;
  return match(size, found);
}

std::optional<Charsmap::Match> Charsmap::shortest(std::string_view text) const noexcept {
  std::uint32_t base = offset_of(units_[0]);
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::uint32_t node = child(base, static_cast<unsigned char>(text[i]));
    if (node == none) break;
    base = node ^ offset_of(units_[node]);
    if (has_value(units_[node])) return match(i + 1, base);
  }
  return std::nullopt;
}

}  // namespace weldlm
