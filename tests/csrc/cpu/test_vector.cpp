// exp_nonpositive is within 2 ulp of the exact value at every 97th float of its domain. Built for
// each instruction set.

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "check.hpp"
#include "cpu/dispatch.hpp"
#include "cpu/vector.hpp"

using namespace weldlm::cpu;
using namespace weldlm::test;

namespace {

float exp_of(float x) { return exp_nonpositive(broadcast(x))[lanes - 1]; }

void exp_is_within_two_ulp() {
  const auto last = std::bit_cast<std::uint32_t>(-87.3f);
  for (auto bits = std::bit_cast<std::uint32_t>(-0.0f); bits <= last; bits += 97) {
    const float x = std::bit_cast<float>(bits);
    const double exact = std::exp(static_cast<double>(x));
    const float nearest = static_cast<float>(exact);
    const double ulp = std::nextafterf(nearest, 2.0f) - nearest;
    check(std::abs(exp_of(x) - exact) <= 2 * ulp, "exp within 2 ulp");
  }
}

void the_ends_are_exact() {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  check(exp_of(0.0f) == 1.0f && exp_of(-0.0f) == 1.0f, "exp(0) = 1");
  check(exp_of(-88.0f) == 0.0f && exp_of(-3e38f) == 0.0f, "underflow to 0");
  check(exp_of(-infinity) == 0.0f, "exp(-inf) = 0");
  check(std::isnan(exp_of(std::numeric_limits<float>::quiet_NaN())), "exp(NaN) = NaN");
}

}  // namespace

int main() {
  const InstructionSet needed = lanes == 16  ? InstructionSet::avx512
                                : lanes == 8 ? InstructionSet::avx2
                                             : InstructionSet::baseline;
  if (instruction_set() < needed) return 77;
  exp_is_within_two_ulp();
  the_ends_are_exact();
}
