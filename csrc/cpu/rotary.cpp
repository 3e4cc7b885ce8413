#include "cpu/rotary.hpp"

#include <algorithm>

#include "cpu/parallel.hpp"

namespace weldlm::cpu {
namespace {

// Elements that are worth a thread: about ten times what starting one costs.
constexpr std::int64_t elements_per_thread = 32768;

// ivdep: where x is out, an element is read before it is written, and by nobody else.
void rotate_halves(const float* x, const float* cos, const float* sin, std::int64_t half,
                   float* out) noexcept {
#pragma GCC ivdep
  for (std::int64_t i = 0; i < half; ++i) {
    const float a = x[i], b = x[half + i];
    out[i] = a * cos[i] - b * sin[i];
    out[half + i] = b * cos[i] + a * sin[i];
  }
}

void rotate_neighbors(const float* x, const float* cos, const float* sin, std::int64_t half,
                      float* out) noexcept {
#pragma GCC ivdep
  for (std::int64_t i = 0; i < half; ++i) {
    const float a = x[2 * i], b = x[2 * i + 1];
    out[2 * i] = a * cos[i] - b * sin[i];
    out[2 * i + 1] = b * cos[i] + a * sin[i];
  }
}

void rotate_token(const Rotary& rotary, std::int64_t token) noexcept {
  const std::int64_t angle = rotary.positions[token] * rotary.half_width;
  const float *cos = rotary.cos + angle, *sin = rotary.sin + angle;
  const auto rotate_head = rotary.is_interleaved ? rotate_neighbors : rotate_halves;
  for (std::int64_t head = 0; head < rotary.num_heads; ++head) {
    const float* x = rotary.x + token * rotary.x_token_stride + head * rotary.x_head_stride;
    float* out = rotary.out + token * rotary.out_token_stride + head * rotary.out_head_stride;
    rotate_head(x, cos, sin, rotary.half_width, out);
    if (x != out) std::copy(x + 2 * rotary.half_width, x + rotary.head_dim,
                            out + 2 * rotary.half_width);
  }
}

}  // namespace

bool has_angles(const Rotary& rotary) noexcept {
  return std::all_of(rotary.positions, rotary.positions + rotary.num_tokens,
                     [&](std::int64_t position) {
                       return position >= 0 && position < rotary.context_length;
                     });
}

void rotate(const Rotary& rotary) noexcept {
  const std::int64_t size = rotary.num_heads * rotary.head_dim;
  const std::int64_t grain = 1 + elements_per_thread / (size + 1);
  parallel_for(0, rotary.num_tokens, grain, [&](std::int64_t begin, std::int64_t end) noexcept {
    for (std::int64_t token = begin; token < end; ++token) rotate_token(rotary, token);
  });
}

}  // namespace weldlm::cpu
