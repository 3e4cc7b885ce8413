#pragma once

#include <cstdint>
#include <type_traits>

#include "cpu/attention_softmax.hpp"
#include "cpu/attention_tile.hpp"
#include "cpu/fp16.hpp"
#include "cpu/paged_attention.hpp"
#include "cpu/vector.hpp"

// Some rows of a sequence and their keys, a tile of keys after the other. A page is read once for
// all rows.
namespace weldlm::cpu {
namespace {

// Not those of <algorithm>, which have external linkage.
template <class T>
inline void copy(const T* source, std::int64_t count, T* target) noexcept {
  for (std::int64_t i = 0; i < count; ++i) target[i] = source[i];
}

inline void fill(float* target, std::int64_t count, float value) noexcept {
  for (std::int64_t i = 0; i < count; ++i) target[i] = value;
}

// Where a thread works, in the order of scratch_size().
struct Scratch {
  Scratch(float* memory, std::int64_t width) noexcept
      : key_columns(memory),
        values(key_columns + width * keys_per_tile),
        scores(values + width * keys_per_tile),
        sums(scores + rows_per_tile * keys_per_tile),
        q(sums) {}

  float* key_columns;  // [width, keys_per_tile]
  float* values;       // [keys_per_tile, width], where they do not lie in the cache as floats
  float* scores;       // [rows_per_tile, keys_per_tile]
  float* sums;         // [heads, rows, lanes]
  float* q;            // [heads, rows, width]
  float key_scales[keys_per_tile], value_scales[keys_per_tile];
  float factors[rows_per_tile];
  KeyRange visible[rows_per_tile];
};

inline float scale_at(const PagedCache& cache, std::int64_t place) noexcept {
  if (!cache.has_fp16_scale) return static_cast<const float*>(cache.scale)[place];
  return from_fp16(static_cast<const Fp16*>(cache.scale)[place]);
}

// Where the keys or values of a tile lie, those of the first head.
template <class Element>
struct TileOfCache {
  std::int64_t count = 0;
  const Element* rows[keys_per_tile];
  std::int64_t scales[keys_per_tile];
};

template <class Element>
class SplitAttention {
 public:
  SplitAttention(const PagedAttention& attention, const AttentionRows& rows,
                 const SoftmaxStates& states, float* memory) noexcept
      : attention_(attention),
        rows_(rows),
        states_(states),
        size_(attention.head_dim),
        width_(state_width(attention.head_dim)),
        group_(attention.num_heads / attention.num_kv_heads),
        scratch_(memory, width_) {
    scratch_.q += rows.num_kv_heads * rows.count * lanes;
    fill(scratch_.sums, rows.num_kv_heads * rows.count * lanes, 0);
    for (std::int64_t row = 0; row < rows.count; ++row)
      scratch_.visible[row] = visible_keys(attention, rows.sequence, token_in_sequence(row));
    for (std::int64_t head = 0; head < rows.num_kv_heads; ++head) begin_head(head);
  }

  void attend(KeyRange keys) noexcept {
    find_tile(keys, keys.begin);
    for (std::int64_t first = keys.begin; first < keys.end; first += keys_per_tile) {
      const TileOfCache<Element> key_tile = next_keys_, value_tile = next_values_;
      find_tile(keys, first + keys_per_tile);
      Prefetch prefetch(next_keys_.rows, next_values_.rows, next_keys_.count, row_bytes());
      for (std::int64_t head = 0; head < rows_.num_kv_heads; ++head)
        attend_tile(head, first, key_tile, value_tile, prefetch);
      prefetch.finish();
    }
    for (std::int64_t head = 0; head < rows_.num_kv_heads; ++head)
      for (std::int64_t row = 0; row < rows_.count; ++row)
        states_[head].sums[row] = sum_of(load(sums_of(head, row)));
  }

 private:
  void begin_head(std::int64_t head) noexcept {
    const SoftmaxState state = states_[head];
    fill(state.highest, rows_.count, minus_infinity);
    fill(state.values, rows_.count * width_, 0);
    for (std::int64_t row = 0; row < rows_.count; ++row) {
      const std::int64_t token = attention_.q_offsets[rows_.sequence] + token_in_sequence(row);
      const float* q = attention_.q + token * attention_.q_token_stride +
                       q_head(head, row) * attention_.q_head_stride;
      copy(q, size_, q_of(head, row));
    }
  }

  std::int64_t token_in_sequence(std::int64_t row) const noexcept {
    return (rows_.first + row) / group_;
  }

  std::int64_t q_head(std::int64_t head, std::int64_t row) const noexcept {
    return (rows_.first_kv_head + head) * group_ + (rows_.first + row) % group_;
  }

  float* q_of(std::int64_t head, std::int64_t row) const noexcept {
    return scratch_.q + (head * rows_.count + row) * width_;
  }

  float* sums_of(std::int64_t head, std::int64_t row) const noexcept {
    return scratch_.sums + (head * rows_.count + row) * lanes;
  }

  // From the first byte of a token's first head to the last of its last.
  std::int64_t row_bytes() const noexcept {
    const std::int64_t to_last = (rows_.num_kv_heads - 1) * attention_.keys.head_stride;
    return (to_last + size_) * static_cast<std::int64_t>(sizeof(Element));
  }

  // Looks up the keys and values from `first` on.
  void find_tile(KeyRange keys, std::int64_t first) noexcept {
    const std::int64_t rest = keys.end - first;
    const std::int64_t count = rest < 0 ? 0 : rest < keys_per_tile ? rest : keys_per_tile;
    const std::int32_t* table = attention_.block_table + rows_.sequence * attention_.table_width;
    std::int64_t entry = first / attention_.block_size, token = first % attention_.block_size;
    for (std::int64_t i = 0; i < count; ++i) {
      find_row(attention_.keys, i, table[entry], token, next_keys_);
      find_row(attention_.values, i, table[entry], token, next_values_);
      if (++token == attention_.block_size) ++entry, token = 0;
    }
    next_keys_.count = next_values_.count = count;
  }

  void find_row(const PagedCache& cache, std::int64_t i, std::int64_t block, std::int64_t token,
                TileOfCache<Element>& tile) const noexcept {
    tile.rows[i] = static_cast<const Element*>(cache.data) + block * cache.block_stride +
                   token * cache.token_stride + rows_.first_kv_head * cache.head_stride;
    if constexpr (is_quantized)
      tile.scales[i] = block * cache.scale_block_stride + token * cache.scale_token_stride +
                       rows_.first_kv_head * cache.scale_head_stride;
  }

  void attend_tile(std::int64_t head, std::int64_t first, const TileOfCache<Element>& keys,
                   const TileOfCache<Element>& values, Prefetch& prefetch) noexcept {
    const std::int64_t key_head = head * attention_.keys.head_stride;
    transpose_rows(keys.rows, key_head, keys.count, size_, scratch_.key_columns);
    for_each_row_block(rows_.count, [&]<int num_rows>(std::int64_t row) noexcept {
      multiply_keys<num_rows>(q_of(head, row), width_, scratch_.key_columns, size_, prefetch,
                              scratch_.scores + row * keys_per_tile);
    });
    if constexpr (is_quantized) {
      read_scales(attention_.keys, keys, head, scratch_.key_scales);
      read_scales(attention_.values, values, head, scratch_.value_scales);
    }
    for (std::int64_t row = 0; row < rows_.count; ++row) weigh(head, row, first);
    const float* value_rows[keys_per_tile];
    find_values(values, head * attention_.values.head_stride, value_rows);
    for_each_row_block(rows_.count, [&]<int num_rows>(std::int64_t row) noexcept {
      multiply_values<num_rows>(scratch_.scores + row * keys_per_tile, value_rows, values.count,
                                size_, scratch_.factors + row, prefetch,
                                states_[head].values + row * width_, width_);
    });
  }

  void read_scales(const PagedCache& cache, const TileOfCache<Element>& tile, std::int64_t head,
                   float* scales) const noexcept {
    for (std::int64_t i = 0; i < tile.count; ++i)
      scales[i] = scale_at(cache, tile.scales[i] + head * cache.scale_head_stride);
    fill(scales + tile.count, keys_per_tile - tile.count, 1);
  }

  // Makes the scores of a row its weights, and takes note of their sum.
  void weigh(std::int64_t head, std::int64_t row, std::int64_t first_key) noexcept {
    const ScoreOptions& options = attention_.options;
    float* memory = scratch_.scores + row * keys_per_tile;
    TileRow scores;
    for (std::int64_t i = 0; i < vectors_per_tile; ++i)
      scores[i] = load(memory + i * lanes) * options.scale;
    if constexpr (is_quantized) multiply(scratch_.key_scales, scores);
    const RowOfTile place{q_head(head, row), position_of(row), first_key, scratch_.visible[row]};
    add_biases(options, place, scores);
    if (options.softcap > 0) cap(options.softcap, scores);
    hide(place, scores);

    const auto [shift, factor] = raise_highest(highest_of(scores), states_[head].highest[row]);
    Floats sum = load(sums_of(head, row)) * factor;
    for (std::int64_t i = 0; i < vectors_per_tile; ++i) {
      scores[i] = exp_nonpositive(scores[i] - shift);
      sum += scores[i];
    }
    store(sums_of(head, row), sum);
    scratch_.factors[row] = factor;
    if constexpr (is_quantized) multiply(scratch_.value_scales, scores);
    for (std::int64_t i = 0; i < vectors_per_tile; ++i) store(memory + i * lanes, scores[i]);
  }

  // Of the query among the keys: the queries are the last of them.
  std::int64_t position_of(std::int64_t row) const noexcept {
    const std::int32_t* bounds = attention_.q_offsets + rows_.sequence;
    return token_in_sequence(row) + attention_.lengths[rows_.sequence] - (bounds[1] - bounds[0]);
  }

  // Where the values are as floats that can be read in whole registers.
  void find_values(const TileOfCache<Element>& tile, std::int64_t head,
                   const float** values) noexcept {
    if constexpr (!is_quantized) {
      if (size_ % lanes == 0) {
        for (std::int64_t key = 0; key < tile.count; ++key) values[key] = tile.rows[key] + head;
        return;
      }
    }
    for (std::int64_t key = 0; key < tile.count; ++key) {
      float* value = scratch_.values + key * width_;
      for (std::int64_t i = 0; i < size_; i += lanes)
        store(value + i, load_elements(tile.rows[key] + head + i, size_ - i));
      values[key] = value;
    }
  }

  static constexpr bool is_quantized = !std::is_same_v<Element, float>;

  const PagedAttention& attention_;
  const AttentionRows rows_;
  const SoftmaxStates states_;
  const std::int64_t size_, width_, group_;
  Scratch scratch_;
  TileOfCache<Element> next_keys_, next_values_;
};

template <class Element>
void attend_split(const PagedAttention& attention, const AttentionRows& rows, KeyRange keys,
                  const SoftmaxStates& states, float* scratch) noexcept {
  SplitAttention<Element>(attention, rows, states, scratch).attend(keys);
}

constexpr PagedAttentionKernels paged_attention_kernels{
    {attend_split<float>, attend_split<std::int8_t>, attend_split<Fp8>}};

}  // namespace
}  // namespace weldlm::cpu
