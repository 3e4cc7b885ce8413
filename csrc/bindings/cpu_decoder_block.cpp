// A layer of a decoder, run in one call. What stays from call to call is a struct; the rest comes as
// tuples, as in cpu_paged_attention.cpp.

#include <pybind11/stl.h>

#include <cstdint>
#include <tuple>

#include "bindings/cpu_bindings.hpp"
#include "cpu/decoder_block.hpp"

namespace weldlm::cpu::bindings {
namespace {

using Size = std::int64_t;

// format, values, scales, minimums, bias, in_features, out_features, group_size
using Layer = std::tuple<int, Address, Address, Address, Address, Size, Size, Size>;
// weight, bias, eps, is_rms
using Norm = std::tuple<Address, Address, float, bool>;
using Cache = std::tuple<Address, Size, Size, Size, Address, Size, Size, Size, bool>;
// stream, update, new_stream, new_update, positions, slots
using Rows = std::tuple<Address, Address, Address, Address, Address, Address>;
// cos, sin, half_width, context_length
using Angles = std::tuple<Address, Address, Size, Size>;
// block_table, lengths, q_offsets
using Places = std::tuple<Address, Address, Address>;
// num_tokens, num_sequences, num_blocks, block_size, table_width, split_length
using Sizes = std::tuple<Size, Size, Size, Size, Size, Size>;

PackedLayer to_layer(const Layer& layer) noexcept {
  const auto& [format, values, scales, minimums, bias, in_features, out_features, group] = layer;
  return {static_cast<PackedLayer::Format>(format), pointer<void>(values), pointer<void>(scales),
          pointer<void>(minimums), pointer<float>(bias), in_features, out_features, group};
}

BlockNorm to_norm(const Norm& norm) noexcept {
  const auto& [weight, bias, eps, is_rms] = norm;
  return {pointer<float>(weight), pointer<float>(bias), eps, is_rms};
}

PagedCache to_cache(const Cache& cache) noexcept {
  const auto& [data, block, token, head, scale, scale_block, scale_token, scale_head, is_fp16] =
      cache;
  return {pointer<void>(data),  block,      token,   head, pointer<void>(scale), scale_block,
          scale_token, scale_head, is_fp16};
}

// A block without its norms, and how it attends.
struct BoundBlock {
  DecoderBlock block;
  ScoreOptions options;
};

BoundBlock make_block(const Layer& qkv, const Layer& out, const Layer& up, const Layer& down,
                      const std::tuple<Size, Size, Size>& heads, int activation, bool is_gated,
                      Size window, float scale, float softcap) {
  const auto& [num_heads, num_kv_heads, head_dim] = heads;
  return {{.qkv = to_layer(qkv),
           .out = to_layer(out),
           .up = to_layer(up),
           .down = to_layer(down),
           .attention_norm = {},
           .mlp_norm = {},
           .num_heads = num_heads,
           .num_kv_heads = num_kv_heads,
           .head_dim = head_dim,
           .activation = static_cast<Activation>(activation),
           .is_gated = is_gated},
          {.is_causal = true,
           .window = window,
           .scale = scale,
           .softcap = softcap,
           .alibi_slopes = nullptr,
           .bias_table = nullptr,
           .bias_reach = 0}};
}

bool run(const BoundBlock& bound, const Norm& attention_norm, const Norm& mlp_norm,
         const Rows& rows, const Angles& angles, const Cache& keys, const Cache& values,
         int element, const Places& places, const Sizes& sizes) {
  DecoderBlock block = bound.block;
  block.attention_norm = to_norm(attention_norm);
  block.mlp_norm = to_norm(mlp_norm);
  const auto& [stream, update, new_stream, new_update, positions, slots] = rows;
  const auto& [cos, sin, half_width, context_length] = angles;
  const auto& [table, lengths, q_offsets] = places;
  const auto& [num_tokens, num_sequences, num_blocks, block_size, table_width, split] = sizes;
  const BlockStep step{.stream = pointer<float>(stream),
                       .update = pointer<float>(update),
                       .new_stream = pointer<float>(new_stream),
                       .new_update = pointer<float>(new_update),
                       .positions = pointer<Size>(positions),
                       .slots = pointer<Size>(slots),
                       .angles = {pointer<float>(cos), pointer<float>(sin), half_width,
                                  context_length},
                       .attention = {.q = nullptr,
                                     .q_token_stride = 0,
                                     .q_head_stride = 0,
                                     .keys = to_cache(keys),
                                     .values = to_cache(values),
                                     .element = static_cast<CacheElement>(element),
                                     .block_table = pointer<std::int32_t>(table),
                                     .lengths = pointer<std::int32_t>(lengths),
                                     .q_offsets = pointer<std::int32_t>(q_offsets),
                                     .out = nullptr,
                                     .num_tokens = num_tokens,
                                     .num_sequences = num_sequences,
                                     .num_blocks = num_blocks,
                                     .block_size = block_size,
                                     .table_width = table_width,
                                     .num_heads = block.num_heads,
                                     .num_kv_heads = block.num_kv_heads,
                                     .head_dim = block.head_dim,
                                     .split_length = split,
                                     .options = bound.options}};
  const py::gil_scoped_release unlocked;
  return run_block(block, step);
}

}  // namespace

void bind_decoder_block(py::module_& module) {
  py::class_<BoundBlock>(module, "DecoderBlock").def(py::init(&make_block)).def("run", &run);
}

}  // namespace weldlm::cpu::bindings
