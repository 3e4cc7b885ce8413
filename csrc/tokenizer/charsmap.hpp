// The precompiled_charsmap of SentencePiece: rules that replace byte strings, as a Darts-clone
// double array of the strings and the replacements behind it, each with a zero byte at its end.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weldlm {

class Charsmap {
 public:
  struct Match {
    std::size_t size;  // bytes of text
    std::string_view replacement;
  };

  // Throws std::invalid_argument on a damaged blob: everything that a search could reach is looked
  // at here, so that no search leaves the blob.
  explicit Charsmap(std::string_view blob);

  const std::string& blob() const noexcept { return blob_; }

  // The longest and the shortest rule for what `text` begins with.
  std::optional<Match> longest(std::string_view text) const noexcept;
  std::optional<Match> shortest(std::string_view text) const noexcept;

  // Whether no rule begins with this byte of ASCII, alone or with another one behind it.
  bool is_plain(unsigned char byte) const noexcept { return is_plain_[byte]; }

 private:
  static constexpr std::uint32_t none = 0xFFFFFFFFu;

  void read(std::string_view blob);
  void check_units() const;
  void check_replacement(std::uint32_t unit) const;
  void find_plain_bytes();
  std::uint32_t child(std::uint32_t base, unsigned char byte) const noexcept;
  Match match(std::size_t size, std::uint32_t base) const noexcept;

  std::string blob_;
  std::vector<std::uint32_t> units_;
  std::string_view replacements_;
  std::array<bool, 256> is_plain_{};
};

}  // namespace weldlm
