#include "cpu/sampling.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>

#include "cpu/draw_arithmetic.hpp"
#include "cpu/parallel.hpp"

namespace weldlm::cpu {
namespace {

constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

// A token's score and its weight in multiples of 2^-40 of the highest.
struct Candidate {
  float score;
  std::int64_t mass;
};

// log2 of weights relative to the highest score's.
struct Exponents {
  float highest, inverse;

  float operator()(float score) const noexcept {
    const float exponent = (score - highest) * inverse * 1.4426950408889634f;
    return exponent > least_exponent ? exponent : least_exponent;
  }
};

// Where a thread works, vocab_size of each.
struct Memory {
  float* scores;
  Candidate* candidates;
};

struct Row {
  const float* scores;
  std::int64_t size;
  Exponents exponents;
};

// NaN where there is one.
float highest_of(const float* scores, std::int64_t size) noexcept {
  float most = minus_infinity;
  bool has_nan = false;
  for (std::int64_t i = 0; i < size; ++i) {
    most = scores[i] > most ? scores[i] : most;
    has_nan |= scores[i] != scores[i];
  }
  return has_nan ? std::numeric_limits<float>::quiet_NaN() : most;
}

// The lowest score that top-k keeps.
float top_k_bound(const Row& row, std::int64_t top_k, float* scores) noexcept {
  if (top_k <= 0 || top_k >= row.size) return minus_infinity;
  std::copy_n(row.scores, row.size, scores);
  std::nth_element(scores, scores + top_k - 1, scores + row.size, std::greater<>{});
  return scores[top_k - 1];
}

// The lowest score of which those above have less mass than `bound`.
float bound_of_mass(Candidate* begin, Candidate* end, std::int64_t bound) noexcept {
  std::int64_t above = 0;
  float pivot = minus_infinity;
  while (begin != end) {
    pivot = begin[(end - begin) / 2].score;
    Candidate* equal = std::partition(begin, end, [=](Candidate c) { return c.score > pivot; });
    Candidate* below = std::partition(equal, end, [=](Candidate c) { return c.score == pivot; });
    std::int64_t higher = above, same = 0;
    for (const Candidate* c = begin; c != equal; ++c) higher += c->mass;
    for (const Candidate* c = equal; c != below; ++c) same += c->mass;
    if (higher >= bound) {
      end = equal;
    } else if (higher + same >= bound) {
      return pivot;
    } else {
      above = higher + same;
      begin = below;
    }
  }
  return pivot;
}

// The lowest score that top-p keeps of those from `lowest` on.
float top_p_bound(const Row& row, float top_p, float lowest, Candidate* candidates) noexcept {
  if (top_p >= 1) return lowest;
  Candidate* end = candidates;
  std::int64_t total = 0;
  for (std::int64_t i = 0; i < row.size; ++i) {
    if (!(row.scores[i] >= lowest)) continue;
    const float weight = relative_weight(row.exponents(row.scores[i]));
    const auto mass = static_cast<std::int64_t>(weight * 0x1p40f);
    if (mass == 0) continue;
    *end++ = {row.scores[i], mass};
    total += mass;
  }
  const double share = static_cast<double>(top_p) * static_cast<double>(total);
  const auto bound = std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil(share)));
  return std::max(lowest, bound_of_mass(candidates, end, bound));
}

// Of the kept tokens that of the lowest exponential number / weight.
std::int64_t draw(const Row& row, float lowest, float min_p, std::int64_t seed,
                  std::int64_t position) noexcept {
  std::int64_t best = 0, drawn = -1;
  float best_cost = std::numeric_limits<float>::infinity();
  bool has_best = false;
  Words words{};
  for (std::int64_t i = 0; i < row.size; ++i) {
    if (!(row.scores[i] >= lowest)) continue;
    const float exponent = row.exponents(row.scores[i]);
    const float weight = relative_weight(exponent);
    if (!(weight > 0) || !(weight >= min_p)) continue;
    if (drawn != i / 2) {
      drawn = i / 2;
      words = philox(static_cast<std::uint64_t>(seed), static_cast<std::uint64_t>(position),
                     static_cast<std::uint64_t>(drawn));
    }
    const std::size_t word = i % 2 == 0 ? 0 : 2;
    const float cost = exponential(words[word], words[word + 1]) * power_of_two(-exponent);
    if (has_best && !(cost < best_cost)) continue;
    has_best = true;
    best = i;
    best_cost = cost;
  }
  return best;
}

void draw_row(const Draws& draws, std::int64_t index, const Memory& memory) noexcept {
  const float* scores = draws.scores + index * draws.row_stride;
  const float highest = highest_of(scores, draws.vocab_size);
  const float temperature = draws.temperatures[index];
  if (!(temperature > 0) || highest != highest) {
    const float* found = std::find(scores, scores + draws.vocab_size, highest);
    draws.ids[index] = found == scores + draws.vocab_size ? 0 : found - scores;
    return;
  }
  const Row row{scores, draws.vocab_size, {highest, 1.0f / temperature}};
  float lowest = minus_infinity;
  if (draws.top_k != nullptr)
    lowest = top_k_bound(row, draws.top_k[index], memory.scores);
  if (draws.top_p != nullptr)
    lowest = top_p_bound(row, draws.top_p[index], lowest, memory.candidates);
  const float min_p = draws.min_p == nullptr ? 0 : draws.min_p[index];
  draws.ids[index] = draw(row, lowest, min_p, draws.seeds[index], draws.positions[index]);
}

}  // namespace

void draw_tokens(const Draws& draws) {
  const std::int64_t workers = std::min<std::int64_t>(num_threads(), draws.num_rows);
  if (workers == 0) return;
  const auto size = static_cast<std::size_t>(workers * draws.vocab_size);
  const auto scores = std::make_unique_for_overwrite<float[]>(size);
  const auto candidates = std::make_unique_for_overwrite<Candidate[]>(size);
  const std::int64_t rows_each = (draws.num_rows + workers - 1) / workers;
  parallel_for(0, workers, 1, [&](std::int64_t begin, std::int64_t end) noexcept {
    for (std::int64_t worker = begin; worker < end; ++worker) {
      const std::int64_t last = std::min(draws.num_rows, (worker + 1) * rows_each);
      for (std::int64_t row = worker * rows_each; row < last; ++row)
        draw_row(draws, row, {scores.get() + worker * draws.vocab_size,
                              candidates.get() + worker * draws.vocab_size});
    }
  });
}

}  // namespace weldlm::cpu
