// write_kv over raw buffers.

#include <pybind11/stl.h>

#include <cstdint>
#include <tuple>

#include "bindings/cpu_bindings.hpp"
#include "cpu/write_kv.hpp"

namespace weldlm::cpu::bindings {
namespace {

using Size = std::int64_t;

// An address and the strides by token and head.
using Heads = std::tuple<Address, Size, Size>;
// As in cpu_paged_attention.cpp.
using Cache = std::tuple<Address, Size, Size, Size, Address, Size, Size, Size, bool>;
// num_tokens, num_kv_heads, head_dim, num_blocks, block_size
using Sizes = std::tuple<Size, Size, Size, Size, Size>;

CacheWrite to_write(const Heads& rows, const Cache& cache, int element, Address slots,
                    const Sizes& sizes) noexcept {
  const auto& [address, token_stride, head_stride] = rows;
  const auto& [data, block, token, head, scale, scale_block, scale_token, scale_head, is_fp16] =
      cache;
  const auto& [num_tokens, num_kv_heads, head_dim, num_blocks, block_size] = sizes;
  return {.rows = pointer<float>(address),
          .token_stride = token_stride,
          .head_stride = head_stride,
          .cache = {pointer<void>(data), block, token, head, pointer<void>(scale), scale_block,
                    scale_token, scale_head, is_fp16},
          .element = static_cast<CacheElement>(element),
          .slots = pointer<std::int64_t>(slots),
          .num_tokens = num_tokens,
          .num_kv_heads = num_kv_heads,
          .head_dim = head_dim,
          .block_size = block_size,
          .num_blocks = num_blocks};
}

bool write_both(const Heads& k, const Heads& v, const Cache& key_cache, const Cache& value_cache,
                int element, Address slots, const Sizes& sizes) {
  const CacheWrite keys = to_write(k, key_cache, element, slots, sizes);
  const CacheWrite values = to_write(v, value_cache, element, slots, sizes);
  const py::gil_scoped_release unlocked;
  if (!has_slots(keys)) return false;
  write_cache(keys);
  write_cache(values);
  return true;
}

}  // namespace

void bind_write_kv(py::module_& module) { module.def("write_kv", &write_both); }

}  // namespace weldlm::cpu::bindings
