#pragma once

#include <cstdint>

#include "cpu/paged_cache.hpp"

namespace weldlm::cpu {

// What becomes of the scores q k before their softmax: scale, then biases by the distance of key
// and query, then softcap * tanh(. / softcap), then the mask.
struct ScoreOptions {
  bool is_causal;
  std::int64_t window;  // keys so far away or farther are not seen; 0: none
  float scale;
  float softcap;              // 0: none
  const float* alibi_slopes;  // [num_heads] or null
  const float* bias_table;    // [num_heads, 2 * bias_reach + 1], by distance; or null
  std::int64_t bias_reach;    // farther keys have the bias of this distance
};

// Attention of packed queries to keys and values in pages; the queries of a sequence are its last
// tokens. Its keys are summed in splits of split_length, a multiple of keys_per_tile, and these in
// order: a row has the same bits in any batch and on any number of threads.
struct PagedAttention {
  const float* q;  // [num_tokens, num_heads, head_dim]
  std::int64_t q_token_stride, q_head_stride;
  PagedCache keys, values;
  CacheElement element;
  const std::int32_t* block_table;  // [num_sequences, table_width]
  const std::int32_t* lengths;      // [num_sequences]
  const std::int32_t* q_offsets;    // [num_sequences + 1]
  float* out;                       // [num_tokens, num_heads, head_dim], contiguous
  std::int64_t num_tokens, num_sequences, num_blocks, block_size, table_width;
  std::int64_t num_heads, num_kv_heads, head_dim;
  std::int64_t split_length;
  ScoreOptions options;
};

constexpr std::int64_t keys_per_tile = 64;
constexpr std::int64_t rows_per_tile = 32;

// Whether offsets, lengths and the block table name rows and pages that exist.
[[nodiscard]] bool is_readable(const PagedAttention& attention) noexcept;

// Of what is_readable. Allocates where keys are split.
void paged_attention(const PagedAttention& attention);

// Consecutive rows of one sequence, for each of some key/value heads; row r of such a head is token
// r / group, head r % group of those that share it.
struct AttentionRows {
  std::int64_t sequence;
  std::int64_t first_kv_head, num_kv_heads;
  std::int64_t first, count;  // at most rows_per_tile
};

struct KeyRange {
  std::int64_t begin, end;
};

// Of each row: the highest score, the sum of exp(score - highest) and with these weights that of
// the values, rows state_width(head_dim) floats apart.
struct SoftmaxState {
  float* highest;
  float* sums;
  float* values;
};

[[nodiscard]] constexpr std::int64_t state_width(std::int64_t head_dim) noexcept {
  return (head_dim + 15) / 16 * 16;
}

// The states of num_rows rows each, one a key/value head, end to end.
struct SoftmaxStates {
  float* memory;
  std::int64_t num_rows;
  std::int64_t width;  // state_width(head_dim)

  [[nodiscard]] constexpr std::int64_t size() const noexcept { return num_rows * (width + 2); }

  [[nodiscard]] constexpr SoftmaxState operator[](std::int64_t index) const noexcept {
    float* values = memory + index * size();
    float* highest = values + num_rows * width;
    return {highest, highest + num_rows, values};
  }
};

// The keys that a row sees.
[[nodiscard]] KeyRange visible_keys(const PagedAttention& attention, std::int64_t sequence,
                                    std::int64_t token) noexcept;

// Overwrites a state for each key/value head by what `rows` find among `keys`, whose begin is a
// multiple of keys_per_tile; scratch is scratch_size() floats.
using AttendSplit = void (*)(const PagedAttention& attention, const AttentionRows& rows,
                             KeyRange keys, const SoftmaxStates& states, float* scratch) noexcept;

[[nodiscard]] std::int64_t scratch_size(std::int64_t num_kv_heads, std::int64_t num_rows,
                                        std::int64_t head_dim) noexcept;

// One for each CacheElement.
struct PagedAttentionKernels {
  AttendSplit attend_split[3];
};

extern const PagedAttentionKernels paged_attention_baseline;
extern const PagedAttentionKernels paged_attention_avx2;
extern const PagedAttentionKernels paged_attention_avx512;

}  // namespace weldlm::cpu
