// The linear layers with packed weights. Addresses without names, since a call of one row takes
// less time than reading ten keywords.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bindings/cpu_bindings.hpp"
#include "cpu/int4_linear.hpp"
#include "cpu/int8_linear.hpp"
#include "cpu/linear.hpp"

namespace weldlm::cpu::bindings {
namespace {

// Grows to the largest call of its thread and stays, so that a small call allocates nothing.
std::byte* workspace(std::size_t size) {
  thread_local std::vector<std::byte> bytes;
  if (bytes.size() < size) bytes.resize(size);
  return bytes.data();
}

}  // namespace

void bind_linear(py::module_& module) {
  module.def("linear", [](Address x, Address weight, Address bias, Address y,
                          std::int64_t num_rows, std::int64_t in_features,
                          std::int64_t out_features) {
    const Linear layer{.x = pointer<float>(x),
                       .weight = pointer<float>(weight),
                       .bias = pointer<float>(bias),
                       .y = pointer<float>(y),
                       .num_rows = num_rows,
                       .in_features = in_features,
                       .out_features = out_features};
    const py::gil_scoped_release unlocked;
    linear(layer);
  });
  module.def("int8_linear", [](Address x, Address values, Address scales, Address bias, Address y,
                               std::int64_t num_rows, std::int64_t in_features,
                               std::int64_t out_features) {
    const Int8Linear linear{.x = pointer<float>(x),
                            .values = pointer<std::uint8_t>(values),
                            .scales = pointer<float>(scales),
                            .bias = pointer<float>(bias),
                            .y = pointer<float>(y),
                            .num_rows = num_rows,
                            .in_features = in_features,
                            .out_features = out_features};
    const py::gil_scoped_release unlocked;
    int8_linear(linear, workspace(int8_workspace(num_rows, in_features)));
  });
  module.def("int4_linear", [](Address x, Address values, Address scales, Address minimums,
                               Address bias, Address y, std::int64_t num_rows,
                               std::int64_t in_features, std::int64_t out_features,
                               std::int64_t group_size) {
    const Int4Linear linear{.x = pointer<float>(x),
                            .values = pointer<std::uint8_t>(values),
                            .scales = pointer<std::uint16_t>(scales),
                            .minimums = pointer<std::uint16_t>(minimums),
                            .bias = pointer<float>(bias),
                            .y = pointer<float>(y),
                            .num_rows = num_rows,
                            .in_features = in_features,
                            .out_features = out_features,
                            .group_size = group_size};
    const py::gil_scoped_release unlocked;
    int4_linear(linear, workspace(int4_workspace(num_rows, in_features, group_size)));
  });
}

}  // namespace weldlm::cpu::bindings
