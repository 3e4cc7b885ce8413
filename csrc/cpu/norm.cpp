#include "cpu/norm.hpp"

#include <algorithm>

#include "cpu/dispatch.hpp"
#include "cpu/parallel.hpp"

namespace weldlm::cpu {
namespace {

// Elements that are worth a thread: about ten times what starting one costs.
constexpr std::int64_t elements_per_thread = 32768;

const NormRows& layer_norm_rows() noexcept {
  return variant(layer_norm_rows_baseline, layer_norm_rows_avx2);
}

const NormRows& rms_norm_rows() noexcept {
  return variant(rms_norm_rows_baseline, rms_norm_rows_avx2);
}

void run_forward(const NormRows& rows, const NormForward& norm) noexcept {
  const std::int64_t grain = 1 + elements_per_thread / (norm.hidden_size + 1);
  parallel_for(0, norm.num_rows, grain, [&](std::int64_t begin, std::int64_t end) noexcept {
    rows.forward(norm, begin, end);
  });
}

// Sums the first `size` columns of block_sums [blocks, width] into `total`.
void sum_blocks(const float* block_sums, std::int64_t blocks, std::int64_t width, std::int64_t size,
                float* total) noexcept {
  const std::int64_t grain = 1 + elements_per_thread / (blocks + 1);
  parallel_for(0, size, grain, [=](std::int64_t begin, std::int64_t end) noexcept {
    std::fill(total + begin, total + end, 0.0f);
    for (std::int64_t block = 0; block < blocks; ++block)
      for (std::int64_t i = begin; i < end; ++i) total[i] += block_sums[block * width + i];
  });
}

void run_backward(const NormRows& rows, const NormBackward& norm) noexcept {
  const std::int64_t size = norm.hidden_size, width = norm.grad_bias == nullptr ? size : 2 * size;
  const std::int64_t blocks = (norm.num_rows + norm.rows_per_block - 1) / norm.rows_per_block;
  const std::int64_t grain = 1 + elements_per_thread / (norm.rows_per_block * size + 1);
  parallel_for(0, blocks, grain, [&](std::int64_t begin, std::int64_t end) noexcept {
    for (std::int64_t block = begin; block < end; ++block) {
      float* sums = norm.block_sums + block * width;
      std::fill_n(sums, width, 0.0f);
      const std::int64_t first = block * norm.rows_per_block;
      rows.backward(norm, first, std::min(first + norm.rows_per_block, norm.num_rows), sums);
    }
  });
  sum_blocks(norm.block_sums, blocks, width, size, norm.grad_weight);
  if (norm.grad_bias != nullptr)
    sum_blocks(norm.block_sums + size, blocks, width, size, norm.grad_bias);
}

}  // namespace

void layer_norm(const NormForward& norm) noexcept { run_forward(layer_norm_rows(), norm); }

void rms_norm(const NormForward& norm) noexcept { run_forward(rms_norm_rows(), norm); }

void layer_norm_backward(const NormBackward& norm) noexcept {
  run_backward(layer_norm_rows(), norm);
}

void rms_norm_backward(const NormBackward& norm) noexcept { run_backward(rms_norm_rows(), norm); }

}  // namespace weldlm::cpu
