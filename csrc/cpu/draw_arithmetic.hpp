#pragma once

#include <array>
#include <bit>
#include <cstdint>

// The numbers that a draw depends on, each operation rounded by itself: what
// weldlm_kernels/sampling/arithmetic.py and philox.py compute, to the bit. Products and sums must
// not be fused: CMakeLists.txt says so for the file that includes this.
namespace weldlm::cpu {
namespace {

constexpr float least_exponent = -100;

// c[0] + x (c[1] + x (...))
template <std::size_t size>
inline float polynomial(const std::array<float, size>& coefficients, float x) noexcept {
  float value = coefficients[size - 1];
  for (std::size_t i = size - 1; i-- > 0;) value = value * x + coefficients[i];
  return value;
}

// 2^exponent for exponents of -126 to 127
inline float power_of_two(float exponent) noexcept {
  constexpr std::array<float, 6> coefficients{
      0.6931471824645996f,   0.24022722244262695f,   0.055495936423540115f,
      0.009652440436184406f, 0.0012689351569861174f, 0.0002082919527310878f};
  const auto truncated = static_cast<std::int32_t>(exponent);
  const std::int32_t whole = truncated - (static_cast<float>(truncated) > exponent);
  const float fraction = exponent - static_cast<float>(whole);
  const float power = polynomial(coefficients, fraction) * fraction + 1.0f;
  return power * std::bit_cast<float>((whole + 127) << 23);
}

// 1 for the highest score, 0 from 2^-100 down
inline float relative_weight(float exponent) noexcept {
  return exponent > least_exponent ? power_of_two(exponent) : 0;
}

// log(1 - u) of a number in (0, 1), to the last digits where u is small
inline float log_of_rest(float u) noexcept {
  constexpr std::array<float, 9> coefficients{
      3.3333331174e-1f,  -2.4999993993e-1f, 2.0000714765e-1f,  -1.6668057665e-1f, 1.4249322787e-1f,
      -1.2420140846e-1f, 1.1676998740e-1f,  -1.1514610310e-1f, 7.0376836292e-2f};
  const auto bits = std::bit_cast<std::int32_t>(1.0f - u);
  const float mantissa = std::bit_cast<float>((bits & 0x7fffff) | 0x3f800000);
  const bool is_high = mantissa > 1.4142135623730951f;
  const auto exponent = static_cast<float>((bits >> 23) - 127 + is_high);
  const float rest = (is_high ? mantissa * 0.5f : mantissa) - 1.0f;
  const float f = exponent == 0 ? -u : rest;
  const float square = f * f;
  float series = polynomial(coefficients, f) * f * square;
  // ln 2 in two parts, the first exact in its products
  series = series + exponent * -2.12194440e-4f - square * 0.5f;
  return f + series + exponent * 0.693359375f;
}

using Words = std::array<std::uint32_t, 4>;

// Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
inline Words philox(std::uint64_t seed, std::uint64_t stream, std::uint64_t counter) noexcept {
  auto low_key = static_cast<std::uint32_t>(seed);
  auto high_key = static_cast<std::uint32_t>(seed >> 32);
  Words c{static_cast<std::uint32_t>(counter), static_cast<std::uint32_t>(counter >> 32),
          static_cast<std::uint32_t>(stream), static_cast<std::uint32_t>(stream >> 32)};
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t first = std::uint64_t{0xD2511F53} * c[0];
    const std::uint64_t second = std::uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<std::uint32_t>(second >> 32) ^ c[1] ^ low_key,
         static_cast<std::uint32_t>(second),
         static_cast<std::uint32_t>(first >> 32) ^ c[3] ^ high_key,
         static_cast<std::uint32_t>(first)};
    low_key += 0x9E3779B9;
    high_key += 0xBB67AE85;
  }
  return c;
}

// An exponentially distributed number from two words: 63 bits, odd, so that none is 0.
inline float exponential(std::uint32_t high, std::uint32_t low) noexcept {
  const auto bits = static_cast<std::int64_t>((std::uint64_t{high} << 31 | low >> 1) | 1);
  const float u = static_cast<float>(bits) * 0x1p-63f;
  return -log_of_rest(u < 1 - 0x1p-24f ? u : 1 - 0x1p-24f);
}

}  // namespace
}  // namespace weldlm::cpu
