// paged_attention over raw buffers.

#include <pybind11/stl.h>

#include <cstdint>
#include <tuple>

#include "bindings/cpu_bindings.hpp"
#include "cpu/paged_attention.hpp"

namespace weldlm::cpu::bindings {
namespace {

using Size = std::int64_t;

// The address of q and its strides by token and head.
using Queries = std::tuple<Address, Size, Size>;
// The address and strides by block, token and head of a cache and of its scales, and whether the
// scales are fp16.
using Cache = std::tuple<Address, Size, Size, Size, Address, Size, Size, Size, bool>;
// block_table, lengths, q_offsets
using Places = std::tuple<Address, Address, Address>;
// num_tokens, num_sequences, num_blocks, block_size, table_width, num_heads, num_kv_heads,
// head_dim, split_length
using Sizes = std::tuple<Size, Size, Size, Size, Size, Size, Size, Size, Size>;
// is_causal, window, scale, softcap, alibi_slopes, bias_table, bias_reach
using Options = std::tuple<bool, Size, float, float, Address, Address, Size>;

PagedCache to_cache(const Cache& cache) noexcept {
  const auto& [data, block, token, head, scale, scale_block, scale_token, scale_head, is_fp16] =
      cache;
  return {pointer<void>(data),  block,      token,   head, pointer<void>(scale), scale_block,
          scale_token, scale_head, is_fp16};
}

ScoreOptions to_options(const Options& options) noexcept {
  const auto& [is_causal, window, scale, softcap, slopes, table, reach] = options;
  return {is_causal, window, scale, softcap, pointer<float>(slopes), pointer<float>(table), reach};
}

bool attend(const Queries& q, const Cache& keys, const Cache& values, int element,
            const Places& places, Address out, const Sizes& sizes, const Options& options) {
  const auto& [q_address, q_token_stride, q_head_stride] = q;
  const auto& [table, lengths, q_offsets] = places;
  const auto& [num_tokens, num_sequences, num_blocks, block_size, table_width, num_heads,
               num_kv_heads, head_dim, split_length] = sizes;
  const PagedAttention attention{.q = pointer<float>(q_address),
                                 .q_token_stride = q_token_stride,
                                 .q_head_stride = q_head_stride,
                                 .keys = to_cache(keys),
                                 .values = to_cache(values),
                                 .element = static_cast<CacheElement>(element),
                                 .block_table = pointer<std::int32_t>(table),
                                 .lengths = pointer<std::int32_t>(lengths),
                                 .q_offsets = pointer<std::int32_t>(q_offsets),
                                 .out = pointer<float>(out),
                                 .num_tokens = num_tokens,
                                 .num_sequences = num_sequences,
                                 .num_blocks = num_blocks,
                                 .block_size = block_size,
                                 .table_width = table_width,
                                 .num_heads = num_heads,
                                 .num_kv_heads = num_kv_heads,
                                 .head_dim = head_dim,
                                 .split_length = split_length,
                                 .options = to_options(options)};
  const py::gil_scoped_release unlocked;
  if (!is_readable(attention)) return false;
  paged_attention(attention);
  return true;
}

}  // namespace

void bind_paged_attention(py::module_& module) { module.def("paged_attention", &attend); }

}  // namespace weldlm::cpu::bindings
