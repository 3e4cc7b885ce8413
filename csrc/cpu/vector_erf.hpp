#pragma once

#include "cpu/vector.hpp"

namespace weldlm::cpu {
namespace {

// erfc x for x >= 0, within 4 * 2^-24: formula 7.1.26 of Abramowitz and Stegun, which is within
// 1.5e-7, and its roundings.
inline Floats erfc_nonnegative(Floats x) noexcept {
  const Floats t = 1.0f / (1.0f + 0.3275911f * x);
  Floats p = broadcast(1.061405429f);
  p = p * t - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  return p * t * exp_nonpositive(-x * x);
}

}  // namespace
}  // namespace weldlm::cpu
