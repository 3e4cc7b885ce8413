// The bytes of every token, ids 0 to size() - 1 without a gap.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace weldlm {

class Vocabulary {
 public:
  // Where two tokens have the same bytes, `id` gives the lower one.
  explicit Vocabulary(const std::vector<std::string>& tokens);

  // The map from bytes to ids points into the storage of this object.
  Vocabulary(const Vocabulary&) = delete;
  Vocabulary& operator=(const Vocabulary&) = delete;

  std::size_t size() const noexcept { return offsets_.size() - 1; }
  std::optional<std::uint32_t> id(std::string_view token) const;

  // Both throw std::invalid_argument on an id out of range.
  std::string_view token(std::int64_t id) const;
  std::string decode(std::span<const std::int64_t> ids) const;

 private:
  std::string bytes_;
  std::vector<std::size_t> offsets_;
  std::unordered_map<std::string_view, std::uint32_t> ids_;
};

}  // namespace weldlm
