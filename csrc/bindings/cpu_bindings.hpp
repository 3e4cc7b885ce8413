#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

// What the files share that bind the CPU kernels. Tensors arrive as the address of their first
// element (tensor.data_ptr()) and their sizes; the caller keeps them alive, contiguous and of the
// dtype named in _cpu.pyi.
namespace weldlm::cpu::bindings {

namespace py = pybind11;

using Address = std::uintptr_t;

template <class T>
T* pointer(Address address) noexcept {
  return reinterpret_cast<T*>(address);
}

void bind_decoder_block(py::module_& module);
void bind_gated_mlp(py::module_& module);
void bind_linear(py::module_& module);
void bind_paged_attention(py::module_& module);
void bind_rotary(py::module_& module);
void bind_write_kv(py::module_& module);
void bind_sampling(py::module_& module);

}  // namespace weldlm::cpu::bindings
