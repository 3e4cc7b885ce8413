#pragma once

#include "cpu/vector.hpp"

namespace weldlm::cpu {
namespace {

inline Floats magnitude(Floats x) noexcept { return x < 0.0f ? -x : x; }

// tanh x within 3 ulp: near 0, where 1 - 2 / (e^2x + 1) would cancel, by the polynomial of S.
// Moshier's Cephes library.
inline Floats tanh(Floats x) noexcept {
  const Floats a = magnitude(x), square = x * x;
  Floats p = broadcast(-5.70498872745e-3f);
  p = p * square + 2.06390887954e-2f;
  p = p * square - 5.37397155531e-2f;
  p = p * square + 1.33314422036e-1f;
  p = p * square - 3.33332819422e-1f;
  const Floats near = p * square * x + x;
  const Floats e = exp_nonpositive(-2.0f * a);
  const Floats far = 1.0f - 2.0f * e / (1.0f + e);
  return a < 0.625f ? near : (x < 0.0f ? -far : far);
}

}  // namespace
}  // namespace weldlm::cpu
