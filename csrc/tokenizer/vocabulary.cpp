#include "tokenizer/vocabulary.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <stdexcept>
#include <utility>

namespace weldlm {
namespace {

constexpr std::uint32_t no_id = std::numeric_limits<std::uint32_t>::max();

std::size_t hash_of(std::string_view token) noexcept {
  return static_cast<std::size_t>(image_checksum(token));
}

// Without a branch, so that many are looked at at once.
bool are_ascending(std::span<const std::uint64_t> offsets) noexcept {
  std::uint64_t descents = 0;
  for (std::size_t i = 1; i < offsets.size(); ++i) descents |= offsets[i] < offsets[i - 1] ? 1 : 0;
  return descents == 0;
}

}  // namespace

TokenBytes::TokenBytes(const std::vector<std::string>& tokens) {
  if (tokens.empty() || tokens.size() >= std::numeric_limits<std::uint32_t>::max()) {
    throw std::invalid_argument("a vocabulary of " + std::to_string(tokens.size()) +
                                " tokens; expected 1 to 2^32 - 2");
  }
  std::vector<std::uint64_t> offsets{0};
  offsets.reserve(tokens.size() + 1);
  for (const std::string& token : tokens) offsets.push_back(offsets.back() + token.size());
  std::vector<char> bytes;
  bytes.reserve(offsets.back());
  for (const std::string& token : tokens) bytes.insert(bytes.end(), token.begin(), token.end());
  bytes_ = FlatArray(std::move(bytes));
  offsets_ = FlatArray(std::move(offsets));
}

TokenBytes::TokenBytes(ImageReader& image)
    : bytes_(image.array<char>()), offsets_(image.array<std::uint64_t>()) {
  const std::span<const std::uint64_t> offsets = offsets_.view();
  if (offsets.size() < 2 || offsets.back() != bytes_.size() ||
      !are_ascending(offsets)) {
    throw std::invalid_argument("the tokens of the image do not fit their places");
  }
}

void TokenBytes::write(ImageWriter& image) const {
  image.add(bytes_);
  image.add(offsets_);
}

std::string_view TokenBytes::of(std::int64_t id) const {
  if (id < 0 || static_cast<std::uint64_t>(id) >= size()) {
    throw std::invalid_argument(
        "id " + std::to_string(id) + " is not in the vocabulary: " + "expected 0 to " +
        std::to_string(size() - 1) + " (vocab_size=" + std::to_string(size()) + ")");
  }
  const auto index = static_cast<std::size_t>(id);
  return {bytes_.data() + offsets_[index], offsets_[index + 1] - offsets_[index]};
}

Vocabulary::Vocabulary(const std::vector<std::string>& tokens) : tokens_(tokens) {
  std::vector<std::uint32_t> slots(std::bit_ceil(tokens.size() * 2), no_id);
  for (std::size_t id = 0; id < size(); ++id) {
    const std::string_view bytes = token(static_cast<std::int64_t>(id));
    if (bytes.empty()) continue;
    std::uint32_t& slot = slots[find(bytes, slots)];
    if (slot == no_id) slot = static_cast<std::uint32_t>(id);
  }
  slots_ = FlatArray(std::move(slots));
}

Vocabulary::Vocabulary(ImageReader& image)
    : tokens_(image), slots_(image.array<std::uint32_t>()) {
  if (slots_.size() != std::bit_ceil(size() * 2)) {
    throw std::invalid_argument("the vocabulary of the image does not fit its table");
  }
  const std::span<const std::uint32_t> slots = slots_.view();
  std::uint32_t most = 0;
  for (const std::uint32_t id : slots) most = std::max(most, id + 1);  // of no_id: 0
  if (most > size() || std::find(slots.begin(), slots.end(), no_id) == slots.end()) {
    throw std::invalid_argument("the table of the image is not of its vocabulary");
  }
}

void Vocabulary::write(ImageWriter& image) const {
  tokens_.write(image);
  image.add(slots_);
}

std::optional<std::uint32_t> Vocabulary::id(std::string_view token) const {
  const std::uint32_t id = slots_[find(token, slots_.view())];
  if (id == no_id) return std::nullopt;
  return id;
}

// The slot that holds the token, or the free one where it belongs; there is always a free one.
std::size_t Vocabulary::find(std::string_view token, std::span<const std::uint32_t> slots) const {
  std::size_t index = hash_of(token) & (slots.size() - 1);
  while (slots[index] != no_id && tokens_.of(slots[index]) != token) {
    index = (index + 1) & (slots.size() - 1);
  }
  return index;
}

}  // namespace weldlm
