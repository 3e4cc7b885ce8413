// draw_tokens over raw buffers.

#include <cstdint>

#include "bindings/cpu_bindings.hpp"
#include "cpu/sampling.hpp"

namespace weldlm::cpu::bindings {

void bind_sampling(py::module_& module) {
  module.def(
      "draw_tokens",
      [](Address scores, Address temperatures, Address seeds, Address positions, Address top_k,
         Address top_p, Address min_p, Address ids, std::int64_t num_rows,
         std::int64_t vocab_size) {
        const Draws draws{.scores = pointer<float>(scores),
                          .row_stride = vocab_size,
                          .num_rows = num_rows,
                          .vocab_size = vocab_size,
                          .temperatures = pointer<float>(temperatures),
                          .seeds = pointer<std::int64_t>(seeds),
                          .positions = pointer<std::int64_t>(positions),
                          .top_k = pointer<std::int64_t>(top_k),
                          .top_p = pointer<float>(top_p),
                          .min_p = pointer<float>(min_p),
                          .ids = pointer<std::int64_t>(ids)};
        const py::gil_scoped_release unlocked;
        draw_tokens(draws);
      },
      py::kw_only(), py::arg("scores"), py::arg("temperatures"), py::arg("seeds"),
      py::arg("positions"), py::arg("top_k"), py::arg("top_p"), py::arg("min_p"), py::arg("ids"),
      py::arg("num_rows"), py::arg("vocab_size"));
}

}  // namespace weldlm::cpu::bindings
