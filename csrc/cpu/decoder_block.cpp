#include "cpu/decoder_block.hpp"

#include <algorithm>
#include <vector>

#include "cpu/int4_linear.hpp"
#include "cpu/int8_linear.hpp"
#include "cpu/linear.hpp"
#include "cpu/norm.hpp"
#include "cpu/rotary.hpp"
#include "cpu/write_kv.hpp"

namespace weldlm::cpu {
namespace {

// Buffers of one thread's calls, which grow to the largest and stay.
struct Buffers {
  std::vector<float> x, wide, narrow, statistics;
  std::vector<std::byte> workspace;

  template <class T>
  static T* of_size(std::vector<T>& buffer, std::size_t size) {
    if (buffer.size() < size) buffer.resize(size);
    return buffer.data();
  }
};

std::size_t count(std::int64_t rows, std::int64_t width) noexcept {
  return static_cast<std::size_t>(rows * width);
}

std::size_t workspace_of(const PackedLayer& layer, std::int64_t rows) noexcept {
  if (layer.format == PackedLayer::Format::int8) return int8_workspace(rows, layer.in_features);
  if (layer.format == PackedLayer::Format::int4)
    return int4_workspace(rows, layer.in_features, layer.group_size);
  return 0;
}

void apply(const PackedLayer& layer, const float* x, std::int64_t rows, float* y,
           std::byte* workspace) noexcept {
  switch (layer.format) {
    case PackedLayer::Format::fp32:
      return linear({x, static_cast<const float*>(layer.values), layer.bias, y, rows,
                     layer.in_features, layer.out_features});
    case PackedLayer::Format::int8:
      return int8_linear({x, static_cast<const std::uint8_t*>(layer.values),
                          static_cast<const float*>(layer.scales), layer.bias, y, rows,
                          layer.in_features, layer.out_features},
                         workspace);
    case PackedLayer::Format::int4:
      return int4_linear({x, static_cast<const std::uint8_t*>(layer.values),
                          static_cast<const std::uint16_t*>(layer.scales),
                          static_cast<const std::uint16_t*>(layer.minimums), layer.bias, y, rows,
                          layer.in_features, layer.out_features, layer.group_size},
                         workspace);
  }
}

// y = norm(x + residual), stream = x + residual.
void normalize(const BlockNorm& norm, const float* x, const float* residual, std::int64_t rows,
               std::int64_t size, float* y, float* stream, float* statistics) noexcept {
  const NormForward forward{.x = x,
                            .residual = residual,
                            .weight = norm.weight,
                            .bias = norm.bias,
                            .y = y,
                            .stream = residual == nullptr ? nullptr : stream,
                            .mean = norm.is_rms ? nullptr : statistics,
                            .rstd = statistics + rows,
                            .num_rows = rows,
                            .hidden_size = size,
                            .eps = norm.eps};
  norm.is_rms ? rms_norm(forward) : layer_norm(forward);
}

Rotary rotation(const DecoderBlock& block, const BlockStep& step, float* qkv) noexcept {
  const std::int64_t width = block.qkv.out_features, size = block.head_dim;
  return {.x = qkv,
          .x_token_stride = width,
          .x_head_stride = size,
          .cos = step.angles.cos,
          .sin = step.angles.sin,
          .positions = step.positions,
          .out = qkv,
          .out_token_stride = width,
          .out_head_stride = size,
          .num_tokens = step.attention.num_tokens,
          .num_heads = block.num_heads + block.num_kv_heads,
          .head_dim = size,
          .half_width = step.angles.half_width,
          .context_length = step.angles.context_length,
          .is_interleaved = false};
}

CacheWrite write_of(const DecoderBlock& block, const BlockStep& step, const float* rows,
                    const PagedCache& cache) noexcept {
  return {.rows = rows,
          .token_stride = block.qkv.out_features,
          .head_stride = block.head_dim,
          .cache = cache,
          .element = step.attention.element,
          .slots = step.slots,
          .num_tokens = step.attention.num_tokens,
          .num_kv_heads = block.num_kv_heads,
          .head_dim = block.head_dim,
          .block_size = step.attention.block_size,
          .num_blocks = step.attention.num_blocks};
}

}  // namespace

bool run_block(const DecoderBlock& block, const BlockStep& step) {
  thread_local Buffers buffers;
  const std::int64_t rows = step.attention.num_tokens, size = block.qkv.in_features;
  const std::int64_t heads = block.num_heads * block.head_dim;
  const std::int64_t kv_heads = block.num_kv_heads * block.head_dim;
  std::size_t workspace_size = 0;
  for (const PackedLayer* layer : {&block.qkv, &block.out, &block.up, &block.down})
    workspace_size = std::max(workspace_size, workspace_of(*layer, rows));
  float* x = Buffers::of_size(buffers.x, count(rows, size));
  float* wide = Buffers::of_size(
      buffers.wide, count(rows, std::max(block.qkv.out_features, block.up.out_features)));
  float* narrow =
      Buffers::of_size(buffers.narrow, count(rows, std::max(heads, block.down.in_features)));
  float* statistics = Buffers::of_size(buffers.statistics, count(rows, 2));
  std::byte* workspace = Buffers::of_size(buffers.workspace, workspace_size);

  PagedAttention attention = step.attention;
  attention.q = wide;
  attention.q_token_stride = block.qkv.out_features;
  attention.q_head_stride = block.head_dim;
  attention.out = narrow;
  const Rotary rotary = rotation(block, step, wide);
  const CacheWrite keys = write_of(block, step, wide + heads, attention.keys);
  const CacheWrite values = write_of(block, step, wide + heads + kv_heads, attention.values);
  const bool has_rotary = rotary.cos != nullptr;
  if ((has_rotary && !has_angles(rotary)) || !has_slots(keys) || !is_readable(attention))
    return false;

  const bool has_update = step.update != nullptr;
  normalize(block.attention_norm, has_update ? step.update : step.stream,
            has_update ? step.stream : nullptr, rows, size, x, step.new_stream, statistics);
  apply(block.qkv, x, rows, wide, workspace);
  if (has_rotary) rotate(rotary);
  write_cache(keys);
  write_cache(values);
  paged_attention(attention);
  apply(block.out, narrow, rows, x, workspace);

  // the stream is read and written row by row, and may be the same memory
  normalize(block.mlp_norm, x, has_update ? step.new_stream : step.stream, rows, size,
            step.new_update, step.new_stream, statistics);
  apply(block.up, step.new_update, rows, wide, workspace);
  gated_mlp({wide, nullptr, narrow, rows, block.down.in_features, block.activation,
             block.is_gated});
  apply(block.down, narrow, rows, step.new_update, workspace);
  return true;
}

}  // namespace weldlm::cpu
