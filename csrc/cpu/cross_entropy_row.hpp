#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "cpu/cross_entropy.hpp"
#include "cpu/vector.hpp"

// The cross-entropy of one row: its maximum, the exponentials and their sum, and the gradient. The
// row stays in the second-level cache between these passes, so that another pass is cheaper than
// another exponential.
namespace weldlm::cpu {
namespace {

constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

// Sums of this many floats are taken in fp32, and the sum of those in fp64.
constexpr std::int64_t block_size = 64 * lanes;

inline float maximum(const float* logits, std::int64_t vocab_size) noexcept {
  Floats most[4];
  for (Floats& part : most) part = broadcast(minus_infinity);
  std::int64_t i = 0;
  for (; i + 4 * lanes <= vocab_size; i += 4 * lanes)
    for (int part = 0; part < 4; ++part)
      most[part] = max(load(logits + i + part * lanes), most[part]);
  for (; i + lanes <= vocab_size; i += lanes) most[0] = max(load(logits + i), most[0]);
  most[0] = max(load_first(logits + i, vocab_size - i, minus_infinity), most[0]);
  return max_of(max(max(most[0], most[1]), max(most[2], most[3])));
}

// Calls visit(exp(logits[i..] - most), i, count) for each vector of the row, `count` of whose lanes
// belong to it (the others are 0), and returns the sum of all.
template <class Visit>
double sum_of_exponentials(const float* logits, std::int64_t vocab_size, float most,
                           Visit visit) noexcept {
  double sum = 0;
  std::int64_t i = 0;
  while (i + lanes <= vocab_size) {
    const std::int64_t rest = (vocab_size - i) / lanes * lanes;
    const std::int64_t end = i + (rest < block_size ? rest : block_size);
    Floats block_sum{};
    for (; i < end; i += lanes) {
      const Floats e = exp_nonpositive(load(logits + i) - most);
      visit(e, i, lanes);
      block_sum += e;
    }
    sum += static_cast<double>(sum_of(block_sum));
  }
  const std::int64_t count = vocab_size - i;
  const Floats e = exp_nonpositive(load_first(logits + i, count, minus_infinity) - most);
  visit(e, i, count);
  return sum + static_cast<double>(sum_of(e));
}

inline void scale(float* x, std::int64_t size, float factor) noexcept {
  std::int64_t i = 0;
  for (; i + lanes <= size; i += lanes) store(x + i, load(x + i) * factor);
  for (; i < size; ++i) x[i] *= factor;
}

inline double loss_of_row(const float* logits, std::int64_t vocab_size,
                          std::int64_t target) noexcept {
  const float most = maximum(logits, vocab_size);
  const auto ignore = [](Floats, std::int64_t, std::int64_t) noexcept {};
  const double sum = sum_of_exponentials(logits, vocab_size, most, ignore);
  return std::log(sum) + (static_cast<double>(most) - static_cast<double>(logits[target]));
}

inline double loss_of_row_with_gradient(float* logits, std::int64_t vocab_size,
                                        std::int64_t target) noexcept {
  const float most = maximum(logits, vocab_size);
  const double margin = static_cast<double>(most) - static_cast<double>(logits[target]);
  const auto keep = [logits](Floats e, std::int64_t i, std::int64_t count) noexcept {
    if (count == lanes) {
      store(logits + i, e);
    } else {
      store_first(logits + i, count, e);
    }
  };
  const double sum = sum_of_exponentials(logits, vocab_size, most, keep);
  scale(logits, vocab_size, static_cast<float>(1 / sum));
  logits[target] -= 1;
  return std::log(sum) + margin;
}

}  // namespace
}  // namespace weldlm::cpu
