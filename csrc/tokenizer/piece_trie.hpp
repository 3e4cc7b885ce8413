// Strings with a value each, for finding all that begin at a place of a text: a double array.
// One step from a node to a child is one load; every index stays inside the array.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

namespace weldlm {

class PieceTrie {
 public:
  struct Piece {
    std::string_view bytes;  // not empty
    std::uint32_t value;     // less than `none`
  };

  static constexpr std::uint32_t none = std::numeric_limits<std::uint32_t>::max();
  static constexpr std::uint32_t root = 0;

  // Of two pieces of the same bytes the later one counts.
  explicit PieceTrie(std::vector<Piece> pieces);

  bool empty() const noexcept { return is_empty_; }

  // The node behind `node` by one byte; `none` where no piece goes on like that.
  std::uint32_t child(std::uint32_t node, char byte) const noexcept {
    const std::uint32_t next = units_[node].base ^ static_cast<unsigned char>(byte);
    return units_[next].parent == node ? next : none;
  }

  // The value of the piece that ends at `node`; `none` where none ends.
  std::uint32_t value(std::uint32_t node) const noexcept { return units_[node].value; }

  // The value of exactly these bytes, or `none`.
  std::uint32_t find(std::string_view bytes) const noexcept;

  // The bytes of the longest piece that `text` has at `start`; 0 where there is none.
  std::size_t longest_match(std::string_view text, std::size_t start) const noexcept;

 private:
  class Builder;

  struct Unit {
    std::uint32_t base = 0;       // children are at base ^ byte, all in one block of 256
    std::uint32_t parent = none;  // none: the unit is free
    std::uint32_t value = none;
  };

  std::vector<Unit> units_;
  bool is_empty_;
};

}  // namespace weldlm
