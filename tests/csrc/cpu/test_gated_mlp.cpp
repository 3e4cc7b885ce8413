// The elementwise part of an MLP, in buffers without a byte to spare: activations and their slopes
// against double precision, and rows that do not depend on the others.

#include <cmath>
#include <cstdint>
#include <memory>
#include <numbers>
#include <random>
#include <vector>

#include "check.hpp"
#include "cpu/dispatch.hpp"
#include "cpu/gated_mlp.hpp"
#include "torch_cpu.hpp"

using namespace weldlm::cpu;
using namespace weldlm::test;

namespace {

using Index = std::int64_t;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

double value(Activation activation, double x) {
  switch (activation) {
    case Activation::gelu: return 0.5 * x * std::erfc(-x / std::numbers::sqrt2);
    case Activation::gelu_tanh: {
      const double inner = std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x);
      return 0.5 * x * (1 + std::tanh(inner));
    }
    case Activation::silu: return x / (1 + std::exp(-x));
    case Activation::relu: return x > 0 ? x : 0;
    case Activation::relu_squared: return x > 0 ? x * x : 0;
  }
  return 0;
}

double slope(Activation activation, double x) {
  constexpr double h = 1e-5;
  return (value(activation, x + h) - value(activation, x - h)) / (2 * h);
}

struct Problem {
  Problem(Index rows, Index width, bool is_gated) : rows(rows), width(width), is_gated(is_gated) {
    std::mt19937 random(static_cast<unsigned>(rows + width));
    std::normal_distribution<float> normal(0.0f, 3.0f);
    for (Index i = 0; i < rows * width * (is_gated ? 2 : 1); ++i) x.push_back(normal(random));
    for (Index i = 0; i < rows * width; ++i) grad_y.push_back(normal(random));
  }

  void check_forward(Activation activation) const {
    const auto y = std::make_unique<float[]>(at(rows * width));
    gated_mlp({x.data(), nullptr, y.get(), rows, width, activation, is_gated});
    for (Index i = 0; i < rows * width; ++i)
      check_near(y[at(i)], value(activation, gate(i)) * up(i), gate(i) * up(i), "value");
  }

  void check_backward(Activation activation) const {
    const auto grad_x = std::make_unique<float[]>(x.size());
    gated_mlp_backward({x.data(), grad_y.data(), grad_x.get(), rows, width, activation, is_gated});
    for (Index i = 0; i < rows * width; ++i) {
      const double grad = grad_y[at(i)], at_gate = gate(i);
      if (std::abs(at_gate) < 1e-4) continue;  // where relu has no slope
      const double exact = grad * up(i) * slope(activation, at_gate);
      check_near(grad_x[place(i)], exact, grad * up(i), "gradient");
      if (is_gated)
        check_near(grad_x[place(i) + at(width)], grad * value(activation, at_gate), grad * at_gate,
                   "gradient of up");
    }
  }

  std::size_t place(Index i) const {
    return at(is_gated ? i / width * 2 * width + i % width : i);
  }
  double gate(Index i) const { return x[place(i)]; }
  double up(Index i) const { return is_gated ? x[place(i) + at(width)] : 1; }

  // `scale` is what a value or slope of 1 would give.
  static void check_near(double actual, double exact, double scale, const char* what) {
    check(std::abs(actual - exact) <= 2e-6 * (std::abs(exact) + std::abs(scale)), what);
  }

  Index rows, width;
  bool is_gated;
  std::vector<float> x, grad_y;
};

void all_sizes() {
  for (const Index rows : {0, 1, 5})
    for (const Index width : {1, 7, 8, 33, 5000})
      for (const bool is_gated : {false, true}) {
        const Problem problem(rows, width, is_gated);
        for (const Activation activation :
             {Activation::gelu, Activation::gelu_tanh, Activation::silu, Activation::relu,
              Activation::relu_squared}) {
          problem.check_forward(activation);
          problem.check_backward(activation);
        }
      }
}

}  // namespace

int main() {
  for (const std::string& set : available_instruction_sets()) {
    force_instruction_set(set);
    for (const int threads : {1, 3}) {
      torch_num_threads = threads;
      all_sizes();
    }
  }
}
