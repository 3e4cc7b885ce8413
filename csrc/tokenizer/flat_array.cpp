#include "tokenizer/flat_array.hpp"

#include <array>
#include <bit>

namespace weldlm {
namespace {

constexpr std::uint64_t odd = 0x9E3779B97F4A7C15u;

std::uint64_t mixed(std::uint64_t hash, std::uint64_t word) noexcept {
  return (std::rotl(hash, 29) ^ word) * odd;
}

}  // namespace

// Four sums side by side, so that none waits for the multiplication of the one before.
std::uint64_t image_checksum(std::string_view bytes) noexcept {
  std::array<std::uint64_t, 4> hashes{1, 2, 3, 4};
  std::array<std::uint64_t, 4> words;
  std::size_t pos = 0;
  for (; pos + sizeof(words) <= bytes.size(); pos += sizeof(words)) {
    std::memcpy(words.data(), bytes.data() + pos, sizeof(words));
    for (std::size_t i = 0; i < words.size(); ++i) hashes[i] = mixed(hashes[i], words[i]);
  }
  words = {};
  if (pos < bytes.size()) std::memcpy(words.data(), bytes.data() + pos, bytes.size() - pos);
  std::uint64_t sum = bytes.size();
  for (std::size_t i = 0; i < words.size(); ++i) sum = mixed(mixed(sum, hashes[i]), words[i]);
  return sum ^ sum >> 32;
}

}  // namespace weldlm
