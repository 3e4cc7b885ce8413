// The bytes of every token, ids 0 to size() - 1.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/flat_array.hpp"

namespace weldlm {

// A string for each id, end to end in one block.
class TokenBytes {
 public:
  // Throws std::invalid_argument unless there are 1 to 2^32 - 2 tokens.
  explicit TokenBytes(const std::vector<std::string>& tokens);
  explicit TokenBytes(ImageReader& image);

  void write(ImageWriter& image) const;

  std::size_t size() const noexcept { return offsets_.size() - 1; }

  // Throws std::invalid_argument on an id out of range.
  std::string_view of(std::int64_t id) const;

 private:
  FlatArray<char> bytes_;
  FlatArray<std::uint64_t> offsets_;
};

class Vocabulary {
 public:
  // Where two tokens have the same bytes, `id` gives the lower one. An empty token is an id that
  // stands for nothing.
  explicit Vocabulary(const std::vector<std::string>& tokens);
  explicit Vocabulary(ImageReader& image);

  void write(ImageWriter& image) const;

  std::size_t size() const noexcept { return tokens_.size(); }
  std::optional<std::uint32_t> id(std::string_view token) const;

  // Throws std::invalid_argument on an id out of range.
  std::string_view token(std::int64_t id) const { return tokens_.of(id); }

 private:
  std::size_t find(std::string_view token, std::span<const std::uint32_t> slots) const;

  TokenBytes tokens_;
  FlatArray<std::uint32_t> slots_;  // ids where the hash of their bytes says, a power of two of them
};

}  // namespace weldlm
