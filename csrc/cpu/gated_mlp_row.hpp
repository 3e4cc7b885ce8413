#pragma once

#include <cstdint>

#include "cpu/gated_mlp.hpp"
#include "cpu/vector.hpp"
#include "cpu/vector_erf.hpp"
#include "cpu/vector_tanh.hpp"

// Activations f and their slopes f', which are f'(x) = NaN and f(x) = NaN where x is, and the rows
// of an MLP's elementwise part.
namespace weldlm::cpu {
namespace {

struct ValueAndSlope {
  Floats value, slope;
};

inline Floats clamp(Floats x, float most) noexcept {
  x = x > most ? broadcast(most) : x;
  return x < -most ? broadcast(-most) : x;
}

// x P(z <= x) for a standard normal z.
struct Gelu {
  static ValueAndSlope at(Floats x) noexcept {
    constexpr float inverse_sqrt_2 = 0.707106781f, inverse_sqrt_2_pi = 0.398942280f;
    // beyond, probability and density are 0 or 1 in fp32
    const Floats near = clamp(x, 20.0f);
    const Floats half = 0.5f * erfc_nonnegative(magnitude(near) * inverse_sqrt_2);
    const Floats probability = near < 0.0f ? half : 1.0f - half;
    const Floats density = exp_nonpositive(-0.5f * near * near) * inverse_sqrt_2_pi;
    return {x * probability, probability + near * density};
  }
};

struct GeluTanh {
  static ValueAndSlope at(Floats x) noexcept {
    constexpr float factor = 0.797884561f, cubic = 0.044715f;  // sqrt(2 / pi)
    const Floats near = clamp(x, 20.0f), square = near * near;  // beyond, tanh is 1 or -1
    const Floats t = tanh(factor * near * (1.0f + cubic * square));
    const Floats share = 0.5f * (1.0f + t);
    const Floats inner = factor * (1.0f + 3.0f * cubic * square);
    return {x * share, share + 0.5f * near * (1.0f - t * t) * inner};
  }
};

struct Silu {
  static ValueAndSlope at(Floats x) noexcept {
    const Floats e = exp_nonpositive(-magnitude(x));
    const Floats sigmoid = (x < 0.0f ? e : broadcast(1.0f)) / (1.0f + e);
    const Floats rest = (x < 0.0f ? broadcast(1.0f) : e) / (1.0f + e);  // 1 - sigmoid
    return {x * sigmoid, sigmoid * (1.0f + clamp(x, 200.0f) * rest)};
  }
};

struct Relu {
  static ValueAndSlope at(Floats x) noexcept {
    const Floats zero{};
    return {x > 0.0f ? x : zero, x > 0.0f ? broadcast(1.0f) : zero};
  }
};

struct ReluSquared {
  static ValueAndSlope at(Floats x) noexcept {
    const Floats positive = x > 0.0f ? x : Floats{};
    return {positive * positive, 2.0f * positive};
  }
};

template <class F>
inline ValueAndSlope at(Floats x) noexcept {
  const ValueAndSlope found = F::at(x);
  return {x == x ? found.value : x, x == x ? found.slope : x};
}

// Calls visit(i, count) for each vector of a row, `count` of whose lanes belong to it.
template <class Visit>
inline void for_each_part(std::int64_t size, Visit visit) noexcept {
  std::int64_t i = 0;
  for (; i + lanes <= size; i += lanes) visit(i, lanes);
  if (i < size) visit(i, size - i);
}

inline Floats load_part(const float* source, std::int64_t count) noexcept {
  return count == lanes ? load(source) : load_first(source, count, 0);
}

inline void store_part(float* target, std::int64_t count, Floats x) noexcept {
  if (count == lanes) return store(target, x);
  store_first(target, count, x);
}

template <class F, bool is_gated>
void forward_rows(const GatedMlp& mlp, std::int64_t begin, std::int64_t end) noexcept {
  const std::int64_t width = mlp.width;
  for (std::int64_t row = begin; row < end; ++row) {
    const float* x = mlp.x + row * width * (is_gated ? 2 : 1);
    float* y = mlp.out + row * width;
    for_each_part(width, [=](std::int64_t i, std::int64_t count) noexcept {
      Floats value = at<F>(load_part(x + i, count)).value;
      if constexpr (is_gated) value *= load_part(x + width + i, count);
      store_part(y + i, count, value);
    });
  }
}

template <class F, bool is_gated>
void backward_rows(const GatedMlp& mlp, std::int64_t begin, std::int64_t end) noexcept {
  const std::int64_t width = mlp.width, stride = width * (is_gated ? 2 : 1);
  for (std::int64_t row = begin; row < end; ++row) {
    const float *x = mlp.x + row * stride, *grad_y = mlp.grad_y + row * width;
    float* grad_x = mlp.out + row * stride;
    for_each_part(width, [=](std::int64_t i, std::int64_t count) noexcept {
      const ValueAndSlope found = at<F>(load_part(x + i, count));
      Floats grad = load_part(grad_y + i, count);
      if constexpr (is_gated) {
        store_part(grad_x + width + i, count, grad * found.value);
        grad *= load_part(x + width + i, count);
      }
      store_part(grad_x + i, count, grad * found.slope);
    });
  }
}

template <class F>
void forward_of(const GatedMlp& mlp, std::int64_t begin, std::int64_t end) noexcept {
  return mlp.is_gated ? forward_rows<F, true>(mlp, begin, end)
                      : forward_rows<F, false>(mlp, begin, end);
}

template <class F>
void backward_of(const GatedMlp& mlp, std::int64_t begin, std::int64_t end) noexcept {
  return mlp.is_gated ? backward_rows<F, true>(mlp, begin, end)
                      : backward_rows<F, false>(mlp, begin, end);
}

void forward_gated_mlp(const GatedMlp& mlp, std::int64_t begin, std::int64_t end) noexcept {
  switch (mlp.activation) {
    case Activation::gelu: return forward_of<Gelu>(mlp, begin, end);
    case Activation::gelu_tanh: return forward_of<GeluTanh>(mlp, begin, end);
    case Activation::silu: return forward_of<Silu>(mlp, begin, end);
    case Activation::relu: return forward_of<Relu>(mlp, begin, end);
    case Activation::relu_squared: return forward_of<ReluSquared>(mlp, begin, end);
  }
}

void backward_gated_mlp(const GatedMlp& mlp, std::int64_t begin, std::int64_t end) noexcept {
  switch (mlp.activation) {
    case Activation::gelu: return backward_of<Gelu>(mlp, begin, end);
    case Activation::gelu_tanh: return backward_of<GeluTanh>(mlp, begin, end);
    case Activation::silu: return backward_of<Silu>(mlp, begin, end);
    case Activation::relu: return backward_of<Relu>(mlp, begin, end);
    case Activation::relu_squared: return backward_of<ReluSquared>(mlp, begin, end);
  }
}

constexpr GatedMlpRows gated_mlp_rows{forward_gated_mlp, backward_gated_mlp};

}  // namespace
}  // namespace weldlm::cpu
