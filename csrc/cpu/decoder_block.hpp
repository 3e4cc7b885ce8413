#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/gated_mlp.hpp"
#include "cpu/paged_attention.hpp"

namespace weldlm::cpu {

// A linear layer whose weight is packed (packed_weight.hpp).
struct PackedLayer {
  enum class Format { fp32, int8, int4 };
  Format format;
  const void* values;
  const void* scales;    // null for fp32
  const void* minimums;  // of int4, or null
  const float* bias;     // [out_features] or null
  std::int64_t in_features, out_features;
  std::int64_t group_size;  // of int4
};

struct BlockNorm {
  const float* weight;
  const float* bias;  // or null
  float eps;
  bool is_rms;
};

// A layer of a decoder with norms before its two parts. q, k and v come from one projection, in this
// order; gate and up too, where there is a gate.
struct DecoderBlock {
  PackedLayer qkv, out, up, down;
  BlockNorm attention_norm, mlp_norm;
  std::int64_t num_heads, num_kv_heads, head_dim;
  Activation activation;
  bool is_gated;
};

// Tables [context_length, half_width] of the angles of positions; cos is null where there are none.
struct BlockAngles {
  const float* cos;
  const float* sin;
  std::int64_t half_width, context_length;
};

// Tokens of some sequences that go through the block, and the pages of its keys and values.
struct BlockStep {
  const float* stream;  // [num_tokens, hidden_size]
  const float* update;  // what is still to be added to it, or null
  float* new_stream;
  float* new_update;
  const std::int64_t* positions;  // [num_tokens]
  const std::int64_t* slots;      // [num_tokens], as in write_kv.hpp
  BlockAngles angles;
  // the fields of q and out are the block's
  PagedAttention attention;
};

// False, and nothing written, where a position, slot, offset, length or page does not exist. The
// results have the bits of the kernels called one by one. Allocates where keys are split, and
// whatever the calling thread has not needed before.
[[nodiscard]] bool run_block(const DecoderBlock& block, const BlockStep& step);

}  // namespace weldlm::cpu
