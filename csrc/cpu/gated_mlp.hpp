#pragma once

#include <cstdint>

namespace weldlm::cpu {

enum class Activation { gelu, gelu_tanh, silu, relu, relu_squared };

// y = activation(x), or activation(gate) * up with a row of x being gate and up end to end.
struct GatedMlp {
  const float* x;       // [num_rows, width], or [num_rows, 2, width] where gated
  const float* grad_y;  // [num_rows, width]; null in forward
  float* out;           // y [num_rows, width], or the gradient of x in its shape
  std::int64_t num_rows;
  std::int64_t width;
  Activation activation;
  bool is_gated;
};

void gated_mlp(const GatedMlp& mlp) noexcept;
void gated_mlp_backward(const GatedMlp& mlp) noexcept;

// Rows [begin, end) of the above, as vector kernels. A row does not depend on the others.
struct GatedMlpRows {
  void (*forward)(const GatedMlp& mlp, std::int64_t begin, std::int64_t end) noexcept;
  void (*backward)(const GatedMlp& mlp, std::int64_t begin, std::int64_t end) noexcept;
};

extern const GatedMlpRows gated_mlp_rows_baseline;
extern const GatedMlpRows gated_mlp_rows_avx2;
extern const GatedMlpRows gated_mlp_rows_avx512;

}  // namespace weldlm::cpu
