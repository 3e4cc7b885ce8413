#pragma once

#include <cmath>
#include <cstdint>

#include "cpu/norm.hpp"
#include "cpu/vector.hpp"

// The norms of single rows. A row stays in the first-level cache between the passes over it.
namespace weldlm::cpu {
namespace {

// Independent sums, so that one addition need not wait for the one before.
constexpr int num_sums = 4;
using Sums = Floats[num_sums];

inline float total(const Sums& sums) noexcept {
  return sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// Calls visit(i, count, sum) for each vector of a row, `count` of whose lanes belong to it; `sum`
// is the index of the sum to add to.
template <class Visit>
inline void for_each_vector(std::int64_t size, Visit visit) noexcept {
  std::int64_t i = 0;
  for (; i + num_sums * lanes <= size; i += num_sums * lanes)
    for (int sum = 0; sum < num_sums; ++sum) visit(i + sum * lanes, lanes, sum);
  for (; i + lanes <= size; i += lanes) visit(i, lanes, 0);
  if (i < size) visit(i, size - i, 0);
}

inline Floats load_part(const float* source, std::int64_t count) noexcept {
  return count == lanes ? load(source) : load_first(source, count, 0);
}

inline void store_part(float* target, std::int64_t count, Floats x) noexcept {
  if (count == lanes) return store(target, x);
  store_first(target, count, x);
}

// x - mean where that belongs to the row, else 0
inline Floats center(Floats x, float mean, std::int64_t count) noexcept {
  x -= mean;
  for (std::int64_t lane = count; lane < lanes; ++lane) x[lane] = 0;
  return x;
}

inline void add_row(const float* x, const float* residual, std::int64_t size,
                    float* stream) noexcept {
  for_each_vector(size, [=](std::int64_t i, std::int64_t count, int) noexcept {
    store_part(stream + i, count, load_part(x + i, count) + load_part(residual + i, count));
  });
}

inline float mean_of(const float* s, std::int64_t size) noexcept {
  Sums sums{};
  for_each_vector(size, [&](std::int64_t i, std::int64_t count, int sum) noexcept {
    sums[sum] += load_part(s + i, count);
  });
  return total(sums) / static_cast<float>(size);
}

inline float mean_square(const float* s, float mean, std::int64_t size) noexcept {
  Sums sums{};
  for_each_vector(size, [&](std::int64_t i, std::int64_t count, int sum) noexcept {
    const Floats centered = center(load_part(s + i, count), mean, count);
    sums[sum] += centered * centered;
  });
  return total(sums) / static_cast<float>(size);
}

struct Statistics {
  float mean;
  float rstd;
};

inline void scale_row(const float* s, Statistics statistics, const float* weight, const float* bias,
                      std::int64_t size, float* y) noexcept {
  const auto [mean, rstd] = statistics;
  if (bias == nullptr) {
    for_each_vector(size, [=](std::int64_t i, std::int64_t count, int) noexcept {
      const Floats x_hat = (load_part(s + i, count) - mean) * rstd;
      store_part(y + i, count, x_hat * load_part(weight + i, count));
    });
  } else {
    for_each_vector(size, [=](std::int64_t i, std::int64_t count, int) noexcept {
      const Floats x_hat = (load_part(s + i, count) - mean) * rstd;
      store_part(y + i, count, x_hat * load_part(weight + i, count) + load_part(bias + i, count));
    });
  }
}

// is_centered: layer_norm; otherwise rms_norm, whose mean counts as 0
template <bool is_centered>
void forward_rows(const NormForward& norm, std::int64_t begin, std::int64_t end) noexcept {
  const std::int64_t size = norm.hidden_size;
  for (std::int64_t row = begin; row < end; ++row) {
    const float* s = norm.x + row * size;
    if (norm.residual != nullptr) {
      float* stream = norm.stream + row * size;
      add_row(s, norm.residual + row * size, size, stream);
      s = stream;
    }
    Statistics statistics{};
    if constexpr (is_centered) norm.mean[row] = statistics.mean = mean_of(s, size);
    statistics.rstd = 1 / std::sqrt(mean_square(s, statistics.mean, size) + norm.eps);
    norm.rstd[row] = statistics.rstd;
    scale_row(s, statistics, norm.weight, norm.bias, size, norm.y + row * size);
  }
}

// Means over a row of grad_x^ * x^ and, for layer_norm, of grad_x^, where grad_x^ = grad_y *
// weight.
struct GradientMeans {
  float projection;
  float average;
};

template <bool is_centered>
inline GradientMeans gradient_means(const float* grad_y, const float* s, const float* weight,
                                    Statistics statistics, std::int64_t size) noexcept {
  const auto [mean, rstd] = statistics;
  Sums projections{}, averages{};
  for_each_vector(size, [&](std::int64_t i, std::int64_t count, int sum) noexcept {
    // 0 in lanes outside the row, since grad_y is
    const Floats grad_x_hat = load_part(grad_y + i, count) * load_part(weight + i, count);
    projections[sum] += grad_x_hat * ((load_part(s + i, count) - mean) * rstd);
    if constexpr (is_centered) averages[sum] += grad_x_hat;
  });
  const float scale = 1 / static_cast<float>(size);
  return {total(projections) * scale, total(averages) * scale};
}

template <bool is_centered>
inline void backward_row(const NormBackward& norm, std::int64_t row, float* sums) noexcept {
  const std::int64_t size = norm.hidden_size;
  const float *grad_y = norm.grad_y + row * size, *s = norm.stream + row * size;
  const float* weight = norm.weight;
  const Statistics statistics{is_centered ? norm.mean[row] : 0, norm.rstd[row]};
  const auto [projection, average] =
      gradient_means<is_centered>(grad_y, s, weight, statistics, size);
  float *grad_s = norm.grad_s + row * size, *grad_bias = sums + size;
  for_each_vector(size, [=](std::int64_t i, std::int64_t count, int) noexcept {
    const Floats grad = load_part(grad_y + i, count);
    const Floats x_hat = (load_part(s + i, count) - statistics.mean) * statistics.rstd;
    const Floats grad_x_hat = grad * load_part(weight + i, count);
    store_part(grad_s + i, count, (grad_x_hat - x_hat * projection - average) * statistics.rstd);
    store_part(sums + i, count, load_part(sums + i, count) + grad * x_hat);
    if constexpr (is_centered)
      store_part(grad_bias + i, count, load_part(grad_bias + i, count) + grad);
  });
}

template <bool is_centered>
void backward_rows(const NormBackward& norm, std::int64_t begin, std::int64_t end,
                   float* sums) noexcept {
  for (std::int64_t row = begin; row < end; ++row) {
    backward_row<is_centered>(norm, row, sums);
    if (norm.grad_stream == nullptr) continue;
    float* grad_s = norm.grad_s + row * norm.hidden_size;
    add_row(grad_s, norm.grad_stream + row * norm.hidden_size, norm.hidden_size, grad_s);
  }
}

constexpr NormRows layer_norm_rows{forward_rows<true>, backward_rows<true>};
constexpr NormRows rms_norm_rows{forward_rows<false>, backward_rows<false>};

}  // namespace
}  // namespace weldlm::cpu
