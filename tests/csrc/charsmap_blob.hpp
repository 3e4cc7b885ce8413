// A small precompiled charsmap.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace weldlm::test {

inline constexpr std::size_t num_units = 1024;

// Rules a -> "x", ab -> "yz", b -> "", as a double array of four blocks.
inline std::string small_blob() {
  std::vector<std::uint32_t> units(num_units);
  const auto node = [](std::uint32_t at, std::uint32_t base, unsigned char label, bool has_value) {
    return (at ^ base) << 10 | (has_value ? 1u << 8 : 0u) | label;
  };
  units[0] = 256 << 10;
  const std::uint32_t a = 256 ^ 'a';
  const std::uint32_t b = 256 ^ 'b';
  units[a] = node(a, 512, 'a', true);
  units[512] = 1u << 31 | 0;
  units[512 ^ 'b'] = node(512 ^ 'b', 768, 'b', true);
  units[768] = 1u << 31 | 2;
  units[b] = node(b, 769, 'b', true);
  units[769] = 1u << 31 | 5;
  std::string blob;
  const auto append = [&](std::uint32_t word) {
    for (int shift = 0; shift < 32; shift += 8) blob.push_back(static_cast<char>(word >> shift));
  };
  append(num_units * 4);
  for (const std::uint32_t unit : units) append(unit);
  blob += std::string("x\0yz\0\0", 6);
  return blob;
}

}  // namespace weldlm::test
