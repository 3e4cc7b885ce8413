// The loss and gradient of rows of every length around a vector's, against fp64, in buffers that
// end where the last row ends.

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "check.hpp"
#include "cpu/cross_entropy.hpp"
#include "cpu/dispatch.hpp"
#include "torch_cpu.hpp"

using namespace weldlm::cpu;
using namespace weldlm::test;

namespace {

// Rows of random logits in a buffer without a byte to spare.
struct Rows {
  Rows(std::int64_t rows, std::int64_t vocab, std::int64_t stride, float scale)
      : num_rows(rows),
        vocab_size(vocab),
        row_stride(stride),
        size(static_cast<std::size_t>((rows - 1) * stride + vocab)),
        logits(std::make_unique<float[]>(size)) {
    std::mt19937 random(static_cast<unsigned>(vocab));
    std::normal_distribution<float> normal(0, scale);
    for (std::size_t i = 0; i < size; ++i) logits[i] = normal(random);
    for (std::int64_t row = 0; row < rows; ++row) {
      targets.push_back(static_cast<std::int64_t>(random()) % vocab);
    }
  }

  LabelledLogits view() const {
    return {logits.get(), targets.data(), num_rows, vocab_size, row_stride};
  }

  std::int64_t num_rows, vocab_size, row_stride;
  std::size_t size;
  std::unique_ptr<float[]> logits;
  std::vector<std::int64_t> targets;
};

double log_sum_exp(const float* logits, std::int64_t vocab_size) {
  double most = -std::numeric_limits<double>::infinity(), sum = 0;
  for (std::int64_t i = 0; i < vocab_size; ++i) most = std::max<double>(most, logits[i]);
  for (std::int64_t i = 0; i < vocab_size; ++i) sum += std::exp(logits[i] - most);
  return most + std::log(sum);
}

void check_rows(const Rows& rows) {
  const std::vector<float> before(rows.logits.get(), rows.logits.get() + rows.size);
  std::vector<double> losses(static_cast<std::size_t>(rows.num_rows)), again(losses);
  cross_entropy(rows.view(), losses.data());
  cross_entropy_with_gradient(rows.view(), again.data());
  check(losses == again, "one loss with and without gradient");
  for (std::int64_t row = 0; row < rows.num_rows; ++row) {
    const auto at = static_cast<std::size_t>(row);
    const float* logits = before.data() + row * rows.row_stride;
    const float* gradient = rows.logits.get() + row * rows.row_stride;
    const double total = log_sum_exp(logits, rows.vocab_size), target = logits[rows.targets[at]];
    // the difference d of two logits is half an ulp off, thus exp(d) by d exp(d) / 2^24, and an
    // exponential is 2 ulp off besides
    const double slack = 1e-6;
    check(std::abs(losses[at] - (total - target)) <= slack * (1 + total - target), "loss");
    for (std::int64_t i = 0; i < rows.vocab_size; ++i) {
      const double expected = std::exp(logits[i] - total) - (i == rows.targets[at]);
      check(std::abs(gradient[i] - expected) <= slack, "gradient");
    }
  }
}

void rows_of_every_length() {
  for (std::int64_t vocab_size = 1; vocab_size <= 70; ++vocab_size) {
    check_rows(Rows(3, vocab_size, vocab_size, 1));
    check_rows(Rows(3, vocab_size, vocab_size + 5, 10));
  }
  for (const std::int64_t vocab_size : {511, 512, 513, 2049, 50257}) {
    check_rows(Rows(5, vocab_size, vocab_size, 3));
  }
}

void extreme_logits() {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  check_rows(Rows(4, 300, 300, 1e4f));
  check_rows(Rows(4, 300, 300, 1e30f));
  Rows masked(2, 100, 100, 1);
  masked.targets = {7, 98};
  for (std::int64_t i = 10; i < 98; ++i) masked.logits[static_cast<std::size_t>(i)] = -infinity;
  check_rows(masked);
}

void no_rows() {
  const LabelledLogits rows{nullptr, nullptr, 0, 10, 10};
  cross_entropy(rows, nullptr);
  cross_entropy_with_gradient(rows, nullptr);
}

}  // namespace

int main() {
  for (const std::string& set : available_instruction_sets()) {
    force_instruction_set(set);
    for (const int threads : {1, 3}) {
      torch_num_threads = threads;
      rows_of_every_length();
      extreme_logits();
      no_rows();
    }
  }
}
