// The elementwise part of an MLP. Addresses without names, as in cpu_linear.cpp.

#include <cstdint>

#include "bindings/cpu_bindings.hpp"
#include "cpu/gated_mlp.hpp"

namespace weldlm::cpu::bindings {

void bind_gated_mlp(py::module_& module) {
  module.def("gated_mlp", [](Address x, Address y, std::int64_t num_rows, std::int64_t width,
                             int activation, bool is_gated) {
    const GatedMlp mlp{.x = pointer<float>(x),
                       .grad_y = nullptr,
                       .out = pointer<float>(y),
                       .num_rows = num_rows,
                       .width = width,
                       .activation = static_cast<Activation>(activation),
                       .is_gated = is_gated};
    const py::gil_scoped_release unlocked;
    gated_mlp(mlp);
  });
  module.def("gated_mlp_backward",
             [](Address grad_y, Address x, Address grad_x, std::int64_t num_rows,
                std::int64_t width, int activation, bool is_gated) {
               const GatedMlp mlp{.x = pointer<float>(x),
                                  .grad_y = pointer<float>(grad_y),
                                  .out = pointer<float>(grad_x),
                                  .num_rows = num_rows,
                                  .width = width,
                                  .activation = static_cast<Activation>(activation),
                                  .is_gated = is_gated};
               const py::gil_scoped_release unlocked;
               gated_mlp_backward(mlp);
             });
}

}  // namespace weldlm::cpu::bindings
