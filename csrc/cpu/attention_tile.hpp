#pragma once

#include <cstdint>

#include "cpu/paged_attention.hpp"
#include "cpu/shuffle.hpp"
#include "cpu/vector.hpp"

// The two matrix products of attention for a tile of keys_per_tile keys: sums stay in registers,
// rows that share a key/value head read it together.
namespace weldlm::cpu {
namespace {

// Registers that sums may take, of 16 or 32.
constexpr int sum_registers = lanes == 16 ? 16 : 8;

// Of one row; a single row takes more, so that an addition need not wait for the one before.
constexpr int columns_of(int rows) noexcept { return rows == 1 ? 4 : sum_registers / 4; }

inline Floats load_elements(const float* source) noexcept { return load(source); }

inline Floats load_elements(const std::int8_t* source) noexcept {
  using Bytes [[gnu::vector_size(lanes)]] = std::int8_t;
  Bytes bytes;
  std::memcpy(&bytes, source, sizeof bytes);
  using Integers [[gnu::vector_size(vector_bytes)]] = std::int32_t;
  return __builtin_convertvector(__builtin_convertvector(bytes, Integers), Floats);
}

inline Floats load_elements(const Fp8* source) noexcept {
  Floats x{};
  for (std::int64_t lane = 0; lane < lanes; ++lane) x[lane] = fp8_values[source[lane].bits];
  return x;
}

inline float element(const float* source) noexcept { return *source; }
inline float element(const std::int8_t* source) noexcept { return *source; }
inline float element(const Fp8* source) noexcept { return fp8_values[source->bits]; }

// The first `count` elements, at most `lanes`, and 0 in the other lanes.
template <class Element>
inline Floats load_elements(const Element* source, std::int64_t count) noexcept {
  if (count >= lanes) return load_elements(source);
  Floats x{};
  for (std::int64_t lane = 0; lane < count; ++lane) x[lane] = element(source + lane);
  return x;
}

// Asks for the next tile's keys and values a few cache lines at a time while this one is computed:
// pages lie scattered, so that the processor cannot guess them.
class Prefetch {
 public:
  Prefetch(const void* const* keys, const void* const* values, std::int64_t count,
           std::int64_t row_bytes) noexcept
      : row_(keys), end_(keys + count), values_(values), row_bytes_(row_bytes) {
    if (count == 0) values_ = nullptr;
  }

  template <class Element>
  Prefetch(const Element* const* keys, const Element* const* values, std::int64_t count,
           std::int64_t row_bytes) noexcept
      : Prefetch(reinterpret_cast<const void* const*>(keys),
                 reinterpret_cast<const void* const*>(values), count, row_bytes) {}

  void step() noexcept {
    for (int line = 0; line < lines_per_step; ++line) ask();
  }

  void finish() noexcept {
    while (row_ != end_) ask();
  }

 private:
  static constexpr std::int64_t line_bytes = 64;
  static constexpr int lines_per_step = 2;

  void ask() noexcept {
    if (row_ == end_) return;
    __builtin_prefetch(static_cast<const char*>(*row_) + byte_);
    byte_ += line_bytes;
    if (byte_ < row_bytes_) return;
    byte_ = 0;
    if (++row_ != end_ || values_ == nullptr) return;
    row_ = values_;
    end_ = values_ + count_;
    values_ = nullptr;
  }

  const void* const* row_;
  const void* const* end_;
  const void* const* values_;
  std::int64_t row_bytes_, count_ = end_ - row_, byte_ = 0;
};

// rows [lanes][from..from + size] -> columns [size][keys_per_tile], the first `lanes` of each
template <class Element>
inline void transpose_whole_rows(const Element* const* rows, std::int64_t from, std::int64_t size,
                                 float* columns) noexcept {
  std::int64_t i = 0;
  for (; i + lanes <= size; i += lanes, columns += lanes * keys_per_tile) {
    Floats block[lanes];
    for (std::int64_t row = 0; row < lanes; ++row) block[row] = load_elements(rows[row] + from + i);
    transpose(block);
    for (std::int64_t row = 0; row < lanes; ++row) store(columns + row * keys_per_tile, block[row]);
  }
  for (; i < size; ++i, columns += keys_per_tile)
    for (std::int64_t row = 0; row < lanes; ++row) columns[row] = element(rows[row] + from + i);
}

// rows [keys_per_tile][from..from + size] -> columns [size][keys_per_tile]; 0 from row `count` on
template <class Element>
inline void transpose_rows(const Element* const* rows, std::int64_t from, std::int64_t count,
                           std::int64_t size, float* columns) noexcept {
  std::int64_t first = 0;
  for (; first + lanes <= count; first += lanes)
    transpose_whole_rows(rows + first, from, size, columns + first);
  if (first == keys_per_tile) return;
  for (std::int64_t i = 0; i < size; ++i, columns += keys_per_tile)
    for (std::int64_t row = first; row < keys_per_tile; ++row)
      columns[row] = row < count ? element(rows[row] + from + i) : 0;
}

// scores[row][key] = q[row] . k[key] for `num_rows` rows, key columns being [size][keys_per_tile]
template <int num_rows>
inline void multiply_keys(const float* q, std::int64_t q_stride, const float* key_columns,
                          std::int64_t size, Prefetch& prefetch, float* scores) noexcept {
  constexpr int columns = columns_of(num_rows);
  for (std::int64_t first = 0; first < keys_per_tile; first += columns * lanes) {
    Floats sums[num_rows][columns]{};
    const float* keys = key_columns + first;
    for (std::int64_t i = 0; i < size; ++i, keys += keys_per_tile) {
      prefetch.step();
      Floats k[columns];
      for (int column = 0; column < columns; ++column) k[column] = load(keys + column * lanes);
      for (int row = 0; row < num_rows; ++row) {
        const Floats x = broadcast(q[row * q_stride + i]);
        for (int column = 0; column < columns; ++column) sums[row][column] += x * k[column];
      }
    }
    for (int row = 0; row < num_rows; ++row)
      for (int column = 0; column < columns; ++column)
        store(scores + row * keys_per_tile + first + column * lanes, sums[row][column]);
  }
}

// sums[row] = sums[row] * factors[row] + weights[row] values, in `columns` registers of a row
template <int num_rows, int columns>
inline void add_values(const float* weights, const float* const* values, std::int64_t count,
                       std::int64_t i, const float* factors, Prefetch& prefetch, float* sums,
                       std::int64_t stride) noexcept {
  Floats tile[num_rows][columns]{};
  for (std::int64_t key = 0; key < count; ++key) {
    prefetch.step();
    Floats v[columns];
    const float* value = values[key] + i;
    for (int column = 0; column < columns; ++column) v[column] = load(value + column * lanes);
    for (int row = 0; row < num_rows; ++row) {
      const Floats weight = broadcast(weights[row * keys_per_tile + key]);
      for (int column = 0; column < columns; ++column) tile[row][column] += weight * v[column];
    }
  }
  for (int row = 0; row < num_rows; ++row) {
    for (int column = 0; column < columns; ++column) {
      float* sum = sums + row * stride + i + column * lanes;
      store(sum, load(sum) * factors[row] + tile[row][column]);
    }
  }
}

// The same for a whole row of `size` floats; reads and writes up to the next multiple of `lanes`.
template <int num_rows>
inline void multiply_values(const float* weights, const float* const* values, std::int64_t count,
                            std::int64_t size, const float* factors, Prefetch& prefetch,
                            float* sums, std::int64_t stride) noexcept {
  constexpr int columns = columns_of(num_rows);
  std::int64_t i = 0;
  for (; i + (columns - 1) * lanes < size; i += columns * lanes)
    add_values<num_rows, columns>(weights, values, count, i, factors, prefetch, sums, stride);
  for (; i < size; i += lanes)
    add_values<num_rows, 1>(weights, values, count, i, factors, prefetch, sums, stride);
}

// Calls visit.operator()<n>(first) for blocks of n = 4 rows and for those that are left, n = 1.
template <class Visit>
inline void for_each_row_block(std::int64_t num_rows, Visit visit) noexcept {
  std::int64_t row = 0;
  for (; row + 4 <= num_rows; row += 4) visit.template operator()<4>(row);
  if (num_rows - row == 3) return visit.template operator()<3>(row);
  if (num_rows - row == 2) return visit.template operator()<2>(row);
  if (num_rows - row == 1) return visit.template operator()<1>(row);
}

}  // namespace
}  // namespace weldlm::cpu
