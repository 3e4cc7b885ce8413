// Code point -> symbol, in pages of 256.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace weldlm {

class CharacterTable {
 public:
  explicit CharacterTable(std::uint32_t missing) : missing_(missing) { pages_.push_back(page()); }

  void set(char32_t code_point, std::uint32_t symbol) {
    if (code_point >= num_code_points) return;
    std::uint16_t& index = page_of_[code_point >> 8];
    if (index == 0) {
      index = static_cast<std::uint16_t>(pages_.size());
      pages_.push_back(page());
    }
    pages_[index][code_point & 0xFF] = symbol;
  }

  // The symbol that was set, or `missing`, also for what is no code point.
  std::uint32_t at(char32_t code_point) const noexcept {
    if (code_point >= num_code_points) return missing_;
    return pages_[page_of_[code_point >> 8]][code_point & 0xFF];
  }

 private:
  static constexpr char32_t num_code_points = 0x110000;
  using Page = std::array<std::uint32_t, 256>;

  Page page() const {
    Page page;
    page.fill(missing_);
    return page;
  }

  std::uint32_t missing_;
  std::vector<Page> pages_;  // the first is of all pages where nothing was set
  std::array<std::uint16_t, (num_code_points >> 8)> page_of_{};
};

}  // namespace weldlm
