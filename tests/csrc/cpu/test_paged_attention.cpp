// Attention over pages against fp64, in caches of which every byte that may not be read is absent
// or NaN, on one and several threads.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "check.hpp"
#include "cpu/dispatch.hpp"
#include "cpu/paged_attention.hpp"
#include "torch_cpu.hpp"

using namespace weldlm::cpu;
using namespace weldlm::test;

namespace {

struct Shape {
  std::int64_t num_kv_heads, group, head_dim, block_size;
};

// Sequences of `lengths` keys, the last q_lengths of which are queries. Blocks lie in reverse.
struct Batch {
  Batch(const Shape& sizes, std::vector<std::int32_t> queries, std::vector<std::int32_t> keys)
      : shape(sizes), lengths(std::move(keys)) {
    for (const std::int32_t count : queries) q_offsets.push_back(q_offsets.back() + count);
    for (const std::int32_t length : lengths)
      width = std::max(width, (length + shape.block_size - 1) / shape.block_size);
    num_blocks = width * static_cast<std::int64_t>(lengths.size());
    for (std::int64_t i = 0; i < num_blocks; ++i)
      table.push_back(static_cast<std::int32_t>(num_blocks - 1 - i));
    const auto floats = static_cast<std::size_t>(num_blocks * block_floats());
    k.assign(floats, std::numeric_limits<float>::quiet_NaN());
    v = k;
    q.resize(static_cast<std::size_t>(q_offsets.back() * q_floats()));
    out.assign(q.size(), std::numeric_limits<float>::quiet_NaN());
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (float& x : q) x = normal(random);
    for (std::size_t row = 0; row < lengths.size(); ++row)
      for (std::int64_t key = 0; key < lengths[row]; ++key)
        for (std::int64_t i = 0; i < shape.num_kv_heads * shape.head_dim; ++i) {
          k[place(row, key) + static_cast<std::size_t>(i)] = normal(random);
          v[place(row, key) + static_cast<std::size_t>(i)] = normal(random);
        }
  }

  std::int64_t q_floats() const { return shape.num_kv_heads * shape.group * shape.head_dim; }
  std::int64_t token_floats() const { return shape.num_kv_heads * shape.head_dim; }
  std::int64_t block_floats() const { return shape.block_size * token_floats(); }

  std::size_t place(std::size_t row, std::int64_t key) const {
    const auto entry = row * static_cast<std::size_t>(width) +
                       static_cast<std::size_t>(key / shape.block_size);
    return static_cast<std::size_t>(table[entry] * block_floats() +
                                    key % shape.block_size * token_floats());
  }

  PagedAttention attention(const ScoreOptions& options) {
    const auto cache = [this](std::vector<float>& x) {
      return PagedCache{x.data(), block_floats(), token_floats(), shape.head_dim,
                        nullptr,  0,              0,              0,
                        false};
    };
    return {.q = q.data(),
            .q_token_stride = q_floats(),
            .q_head_stride = shape.head_dim,
            .keys = cache(k),
            .values = cache(v),
            .element = CacheElement::fp32,
            .block_table = table.data(),
            .lengths = lengths.data(),
            .q_offsets = q_offsets.data(),
            .out = out.data(),
            .num_tokens = q_offsets.back(),
            .num_sequences = static_cast<std::int64_t>(lengths.size()),
            .num_blocks = num_blocks,
            .block_size = shape.block_size,
            .table_width = width,
            .num_heads = shape.num_kv_heads * shape.group,
            .num_kv_heads = shape.num_kv_heads,
            .head_dim = shape.head_dim,
            .split_length = 128,
            .options = options};
  }

  Shape shape;
  std::vector<std::int32_t> lengths, q_offsets{0}, table;
  std::int64_t width = 0, num_blocks = 0;
  std::vector<float> q, k, v, out;
};

double score_of(double product, double distance, std::int64_t head, const ScoreOptions& options) {
  double score = product * static_cast<double>(options.scale);
  if (options.bias_table != nullptr) {
    const auto reach = static_cast<double>(options.bias_reach);
    const auto from_first = static_cast<std::int64_t>(std::clamp(distance, -reach, reach) + reach);
    score += options.bias_table[head * (2 * options.bias_reach + 1) + from_first];
  }
  if (options.alibi_slopes != nullptr) score -= options.alibi_slopes[head] * std::abs(distance);
  if (options.softcap > 0) score = options.softcap * std::tanh(score / options.softcap);
  return score;
}

void check_row(const Batch& batch, const PagedAttention& attention, std::size_t row,
               std::int64_t token, std::int64_t head) {
  const std::int64_t size = batch.shape.head_dim, num_heads = attention.num_heads;
  const std::int64_t first = (batch.q_offsets[row] + token) * num_heads * size + head * size;
  const KeyRange seen = visible_keys(attention, static_cast<std::int64_t>(row), token);
  const std::int64_t position =
      token + batch.lengths[row] - (batch.q_offsets[row + 1] - batch.q_offsets[row]);
  std::vector<double> expected(static_cast<std::size_t>(size), 0);
  double sum = 0;
  for (std::int64_t key = seen.begin; key < seen.end; ++key) {
    const float* k = &batch.k[batch.place(row, key)] + head / batch.shape.group * size;
    const float* v = &batch.v[batch.place(row, key)] + head / batch.shape.group * size;
    double product = 0;
    for (std::int64_t i = 0; i < size; ++i)
      product += static_cast<double>(batch.q[static_cast<std::size_t>(first + i)]) * k[i];
    const double weight = std::exp(
        score_of(product, static_cast<double>(key - position), head, attention.options));
    sum += weight;
    for (std::int64_t i = 0; i < size; ++i) expected[static_cast<std::size_t>(i)] += weight * v[i];
  }
  for (std::int64_t i = 0; i < size; ++i) {
    const double value = sum > 0 ? expected[static_cast<std::size_t>(i)] / sum : 0;
    check(std::abs(batch.out[static_cast<std::size_t>(first + i)] - value) < 1e-5, "out");
  }
}

void check_batch(Batch batch, const ScoreOptions& options) {
  const PagedAttention attention = batch.attention(options);
  check(is_readable(attention), "the batch is whole");
  paged_attention(attention);
  for (std::size_t row = 0; row < batch.lengths.size(); ++row)
    for (std::int64_t token = 0; token < batch.q_offsets[row + 1] - batch.q_offsets[row]; ++token)
      for (std::int64_t head = 0; head < attention.num_heads; ++head)
        check_row(batch, attention, row, token, head);
}

void every_shape() {
  const ScoreOptions plain{true, 0, 0.3f, 0, nullptr, nullptr, 0};
  for (const std::int64_t head_dim : {1, 7, 16, 33, 64})
    for (const std::int64_t group : {1, 3, 5})
      check_batch({{2, group, head_dim, 5}, {1, 0, 3, 1}, {70, 9, 3, 200}}, plain);
  check_batch({{1, 2, 24, 16}, {40, 2}, {150, 1}}, plain);
}

void every_option() {
  const std::vector<float> slopes{0.5f, 0.1f}, biases{1, 2, 3, 4, 5, 6, 7, -1, 0, 1, 2, 3, 4, 5};
  for (const bool is_causal : {true, false})
    for (const std::int64_t window : {0, 1, 50})
      check_batch({{1, 2, 8, 16}, {3, 20}, {150, 90}},
                  {is_causal, window, 0.2f, 3, slopes.data(), biases.data(), 3});
}

void what_does_not_exist_is_found() {
  Batch batch({1, 1, 4, 4}, {1, 1}, {5, 3});
  const ScoreOptions options{true, 0, 1, 0, nullptr, nullptr, 0};
  check(is_readable(batch.attention(options)), "whole");
  batch.table[1] = 4;
  check(!is_readable(batch.attention(options)), "a block behind the last");
  batch.table[1] = 0;
  batch.lengths[1] = 9;
  check(!is_readable(batch.attention(options)), "a length beyond the blocks");
}

}  // namespace

int main() {
  for (const std::string& set : available_instruction_sets()) {
    force_instruction_set(set);
    for (const int threads : {1, 3}) {
      torch_num_threads = threads;
      every_shape();
      every_option();
    }
  }
  what_does_not_exist_is_found();
}
