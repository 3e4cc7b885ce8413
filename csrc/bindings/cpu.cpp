// weldlm_kernels._cpu: the compiled CPU kernels over raw buffers. Each kernel's functions are bound
// by one function, below or in cpu_<kernel>.cpp.

#include <pybind11/stl.h>

#include <cstdint>

#include "bindings/cpu_bindings.hpp"
#include "cpu/cross_entropy.hpp"
#include "cpu/dispatch.hpp"
#include "cpu/norm.hpp"
#include "cpu/parallel.hpp"

using namespace weldlm::cpu;
using namespace weldlm::cpu::bindings;

namespace {

void bind_threads(py::module_& module) {
  module.def("num_threads", &num_threads);
  module.def("thread_runtime", &thread_runtime);
}

void bind_instruction_sets(py::module_& module) {
  module.def("instruction_set", [] { return name(instruction_set()); });
  module.def("available_instruction_sets", &available_instruction_sets);
  module.def("force_instruction_set", &force_instruction_set, py::arg("name"));
}

using CrossEntropy = void (*)(const LabelledLogits&, double*) noexcept;

template <CrossEntropy compute>
void bind_cross_entropy(py::module_& module, const char* name) {
  module.def(
      name,
      [](Address logits, Address targets, Address losses, std::int64_t num_rows,
         std::int64_t vocab_size, std::int64_t row_stride) {
        const LabelledLogits rows{pointer<float>(logits), pointer<std::int64_t>(targets), num_rows,
                                  vocab_size, row_stride};
        const py::gil_scoped_release unlocked;
        compute(rows, pointer<double>(losses));
      },
      py::kw_only(), py::arg("logits"), py::arg("targets"), py::arg("losses"), py::arg("num_rows"),
      py::arg("vocab_size"), py::arg("row_stride"));
}

// Addresses without names: a norm of one row takes less time than reading ten keywords.
void bind_layer_norm(py::module_& module) {
  module.def("layer_norm", [](Address x, Address residual, Address weight, Address bias, Address y,
                              Address stream, Address mean, Address rstd, std::int64_t num_rows,
                              std::int64_t hidden_size, float eps) {
    const NormForward norm{.x = pointer<float>(x),
                           .residual = pointer<float>(residual),
                           .weight = pointer<float>(weight),
                           .bias = pointer<float>(bias),
                           .y = pointer<float>(y),
                           .stream = pointer<float>(stream),
                           .mean = pointer<float>(mean),
                           .rstd = pointer<float>(rstd),
                           .num_rows = num_rows,
                           .hidden_size = hidden_size,
                           .eps = eps};
    const py::gil_scoped_release unlocked;
    layer_norm(norm);
  });
  module.def(
      "layer_norm_backward",
      [](Address grad_y, Address grad_stream, Address stream, Address weight, Address mean,
         Address rstd, Address grad_s, Address block_sums, Address grad_weight, Address grad_bias,
         std::int64_t num_rows, std::int64_t hidden_size, std::int64_t rows_per_block) {
        const NormBackward norm{.grad_y = pointer<float>(grad_y),
                                .grad_stream = pointer<float>(grad_stream),
                                .stream = pointer<float>(stream),
                                .weight = pointer<float>(weight),
                                .mean = pointer<float>(mean),
                                .rstd = pointer<float>(rstd),
                                .grad_s = pointer<float>(grad_s),
                                .block_sums = pointer<float>(block_sums),
                                .grad_weight = pointer<float>(grad_weight),
                                .grad_bias = pointer<float>(grad_bias),
                                .num_rows = num_rows,
                                .hidden_size = hidden_size,
                                .rows_per_block = rows_per_block};
        const py::gil_scoped_release unlocked;
        layer_norm_backward(norm);
      });
}

void bind_rms_norm(py::module_& module) {
  module.def("rms_norm",
             [](Address x, Address residual, Address weight, Address y, Address stream,
                Address rstd, std::int64_t num_rows, std::int64_t hidden_size, float eps) {
               const NormForward norm{.x = pointer<float>(x),
                                      .residual = pointer<float>(residual),
                                      .weight = pointer<float>(weight),
                                      .bias = nullptr,
                                      .y = pointer<float>(y),
                                      .stream = pointer<float>(stream),
                                      .mean = nullptr,
                                      .rstd = pointer<float>(rstd),
                                      .num_rows = num_rows,
                                      .hidden_size = hidden_size,
                                      .eps = eps};
               const py::gil_scoped_release unlocked;
               rms_norm(norm);
             });
  module.def("rms_norm_backward",
             [](Address grad_y, Address grad_stream, Address stream, Address weight, Address rstd,
                Address grad_s, Address block_sums, Address grad_weight, std::int64_t num_rows,
                std::int64_t hidden_size, std::int64_t rows_per_block) {
               const NormBackward norm{.grad_y = pointer<float>(grad_y),
                                       .grad_stream = pointer<float>(grad_stream),
                                       .stream = pointer<float>(stream),
                                       .weight = pointer<float>(weight),
                                       .mean = nullptr,
                                       .rstd = pointer<float>(rstd),
                                       .grad_s = pointer<float>(grad_s),
                                       .block_sums = pointer<float>(block_sums),
                                       .grad_weight = pointer<float>(grad_weight),
                                       .grad_bias = nullptr,
                                       .num_rows = num_rows,
                                       .hidden_size = hidden_size,
                                       .rows_per_block = rows_per_block};
               const py::gil_scoped_release unlocked;
               rms_norm_backward(norm);
             });
}

}  // namespace

PYBIND11_MODULE(_cpu, module) {
  module.doc() = "Compiled CPU kernels of weldlm_kernels";
  bind_threads(module);
  bind_instruction_sets(module);
  bind_cross_entropy<cross_entropy>(module, "cross_entropy");
  bind_cross_entropy<cross_entropy_with_gradient>(module, "cross_entropy_with_gradient");
  bind_layer_norm(module);
  bind_rms_norm(module);
  bind_decoder_block(module);
  bind_gated_mlp(module);
  bind_linear(module);
  bind_paged_attention(module);
  bind_rotary(module);
  bind_write_kv(module);
  bind_sampling(module);
}
