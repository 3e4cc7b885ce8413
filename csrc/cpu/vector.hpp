#pragma once

#include <cstdint>
#include <cstring>

// As many floats as a register of the instruction set holds for which the including file is
// compiled. Everything has internal linkage: the linker must never give the AVX code of one file
// to another that is compiled for any processor.
namespace weldlm::cpu {
namespace {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
#elif defined(__AVX2__)
constexpr int vector_bytes = 32;
#else
constexpr int vector_bytes = 16;
#endif

using Floats [[gnu::vector_size(vector_bytes)]] = float;
using Bits [[gnu::vector_size(vector_bytes)]] = std::uint32_t;
constexpr std::int64_t lanes = vector_bytes / sizeof(float);

// x - 0 is x, unlike x + 0, and needs no instruction
inline Floats broadcast(float x) noexcept { return x - Floats{}; }

inline Floats load(const float* source) noexcept {
  Floats x;
  std::memcpy(&x, source, sizeof x);
  return x;
}

inline void store(float* target, Floats x) noexcept { std::memcpy(target, &x, sizeof x); }

// Loads `count` < lanes floats and fills the others with `rest`.
inline Floats load_first(const float* source, std::int64_t count, float rest) noexcept {
  Floats x = broadcast(rest);
  for (std::int64_t lane = 0; lane < count; ++lane) x[lane] = source[lane];
  return x;
}

inline void store_first(float* target, std::int64_t count, Floats x) noexcept {
  for (std::int64_t lane = 0; lane < count; ++lane) target[lane] = x[lane];
}

// NaN in `x` stays out, as in SSE's maxps.
inline Floats max(Floats x, Floats y) noexcept { return x > y ? x : y; }

inline float max_of(Floats x) noexcept {
  float most = x[0];
  for (std::int64_t lane = 1; lane < lanes; ++lane) most = x[lane] > most ? x[lane] : most;
  return most;
}

inline float sum_of(Floats x) noexcept {
  float sum = x[0];
  for (std::int64_t lane = 1; lane < lanes; ++lane) sum += x[lane];
  return sum;
}

// e^x for x <= 0, within 2 ulp; 0 below -87.3, where the result leaves the normal numbers.
// x = n ln 2 + r with |r| <= ln(2)/2, e^r by the polynomial of S. Moshier's Cephes library, and 2^n
// put into the exponent.
inline Floats exp_nonpositive(Floats x) noexcept {
  constexpr float lowest = -87.3f;
  constexpr float log2_e = 1.44269504f;
  // adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits
  constexpr float round_to_integer = 12582912.0f;
  constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;

  const Floats shifted = x * log2_e + round_to_integer;
  const Floats n = shifted - round_to_integer;
  const Floats r = (x - n * ln2_high) - n * ln2_low;
  Floats p = broadcast(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;

  Bits bits, exponent;
  std::memcpy(&bits, &p, sizeof bits);
  std::memcpy(&exponent, &shifted, sizeof exponent);
  bits += exponent << 23;
  std::memcpy(&p, &bits, sizeof p);
  return x < lowest ? Floats{} : p;
}

}  // namespace
}  // namespace weldlm::cpu
