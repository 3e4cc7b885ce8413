#include "tokenizer/vocabulary.hpp"

#include <limits>
#include <stdexcept>

namespace weldlm {

TokenBytes::TokenBytes(const std::vector<std::string>& tokens) {
  if (tokens.empty() || tokens.size() >= std::numeric_limits<std::uint32_t>::max()) {
    throw std::invalid_argument("a vocabulary of " + std::to_string(tokens.size()) +
                                " tokens; expected 1 to 2^32 - 2");
  }
  offsets_.reserve(tokens.size() + 1);
  offsets_.push_back(0);
  for (const std::string& token : tokens) {
    bytes_ += token;
    offsets_.push_back(bytes_.size());
  }
}

std::string_view TokenBytes::of(std::int64_t id) const {
  if (id < 0 || static_cast<std::uint64_t>(id) >= size()) {
    throw std::invalid_argument(
        "id " + std::to_string(id) + " is not in the vocabulary: " + "expected 0 to " +
        std::to_string(size() - 1) + " (vocab_size=" + std::to_string(size()) + ")");
  }
  const auto index = static_cast<std::size_t>(id);
  return std::string_view(bytes_).substr(offsets_[index], offsets_[index + 1] - offsets_[index]);
}

Vocabulary::Vocabulary(const std::vector<std::string>& tokens) : tokens_(tokens) {
  ids_.reserve(tokens.size());
  for (std::size_t id = 0; id < size(); ++id) {
    const std::string_view bytes = token(static_cast<std::int64_t>(id));
    if (!bytes.empty()) ids_.emplace(bytes, static_cast<std::uint32_t>(id));
  }
}

std::optional<std::uint32_t> Vocabulary::id(std::string_view token) const {
  const auto found = ids_.find(token);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

}  // namespace weldlm
