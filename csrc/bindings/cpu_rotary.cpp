// rotary over raw buffers.

#include <pybind11/stl.h>

#include <cstdint>
#include <tuple>

#include "bindings/cpu_bindings.hpp"
#include "cpu/rotary.hpp"

namespace weldlm::cpu::bindings {
namespace {

using Size = std::int64_t;

// An address and the strides by token and head.
using Heads = std::tuple<Address, Size, Size>;

bool rotate_heads(const Heads& x, const Heads& out, Address cos, Address sin, Address positions,
                  const std::tuple<Size, Size, Size, Size, Size>& sizes, bool is_interleaved) {
  const auto& [x_address, x_token_stride, x_head_stride] = x;
  const auto& [out_address, out_token_stride, out_head_stride] = out;
  const auto& [num_tokens, num_heads, head_dim, half_width, context_length] = sizes;
  const Rotary rotary{.x = pointer<float>(x_address),
                      .x_token_stride = x_token_stride,
                      .x_head_stride = x_head_stride,
                      .cos = pointer<float>(cos),
                      .sin = pointer<float>(sin),
                      .positions = pointer<std::int64_t>(positions),
                      .out = pointer<float>(out_address),
                      .out_token_stride = out_token_stride,
                      .out_head_stride = out_head_stride,
                      .num_tokens = num_tokens,
                      .num_heads = num_heads,
                      .head_dim = head_dim,
                      .half_width = half_width,
                      .context_length = context_length,
                      .is_interleaved = is_interleaved};
  const py::gil_scoped_release unlocked;
  if (!has_angles(rotary)) return false;
  rotate(rotary);
  return true;
}

}  // namespace

void bind_rotary(py::module_& module) { module.def("rotary", &rotate_heads); }

}  // namespace weldlm::cpu::bindings
