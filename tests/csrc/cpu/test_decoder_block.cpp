// A layer of a decoder in one call, in buffers without a byte to spare: sequences together have the
// bits that each has alone, and what does not exist is refused.

#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "check.hpp"
#include "cpu/decoder_block.hpp"
#include "cpu/dispatch.hpp"
#include "cpu/packed_weight.hpp"
#include "torch_cpu.hpp"

using namespace weldlm::cpu;
using namespace weldlm::test;

namespace {

using Index = std::int64_t;
using Floats32 = std::vector<float>;

constexpr Index hidden = 24, heads = 4, kv_heads = 2, head_dim = 6, intermediate = 40;
constexpr Index block_size = 4, num_blocks = 3, context = 16;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

Floats32 random_floats(Index count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 0.3f);
  Floats32 values;
  for (Index i = 0; i < count; ++i) values.push_back(normal(random));
  return values;
}

struct Layer {
  Layer(Index in_features, Index out_features, unsigned seed)
      : weight(random_floats(panel_count(out_features) * 16 * in_features, seed)),
        bias(random_floats(out_features, seed + 1)),
        packed{PackedLayer::Format::fp32, weight.data(), nullptr,     nullptr,
               bias.data(),               in_features,   out_features, 0} {}
  Layer(const Layer&) = delete;

  Floats32 weight, bias;
  PackedLayer packed;
};

struct Model {
  Layer qkv{hidden, (heads + 2 * kv_heads) * head_dim, 1}, out{heads * head_dim, hidden, 3},
      up{hidden, 2 * intermediate, 5}, down{intermediate, hidden, 7};
  Floats32 norm = random_floats(hidden, 9), cos = random_floats(context * head_dim / 2, 10),
           sin = random_floats(context * head_dim / 2, 11);

  DecoderBlock block() const {
    const BlockNorm rms{norm.data(), nullptr, 1e-5f, true};
    return {qkv.packed, out.packed, up.packed, down.packed,      rms, rms, heads,
            kv_heads,   head_dim,   Activation::silu, true};
  }
};

struct Pages {
  Floats32 keys = Floats32(at(num_blocks * block_size * kv_heads * head_dim));
  Floats32 values = keys;

  static PagedCache cache(Floats32& data) {
    return {data.data(), block_size * kv_heads * head_dim, kv_heads * head_dim, head_dim,
            nullptr,     0,                                0,                   0,
            false};
  }
};

// The new tokens of sequence 0 (3 of them, in block 1) and of sequence 1 (2 of them, in block 2).
struct Tokens {
  Floats32 stream, update;
  std::vector<Index> positions, slots;
  std::vector<std::int32_t> table, lengths, offsets;

  Index count() const { return static_cast<Index>(positions.size()); }
};

Tokens part(const Tokens& all, Index begin, Index end, std::int32_t block) {
  const auto cut = [&](const auto& values, Index width) {
    return std::decay_t<decltype(values)>(values.begin() + begin * width,
                                          values.begin() + end * width);
  };
  const auto length = static_cast<std::int32_t>(end - begin);
  return {cut(all.stream, hidden), cut(all.update, hidden), cut(all.positions, 1),
          cut(all.slots, 1),       {block},                 {length},
          {0, length}};
}

bool run(const Model& model, Pages& pages, const Tokens& tokens, Floats32& stream,
         Floats32& update) {
  const Index count = tokens.count();
  const auto new_stream = std::make_unique<float[]>(at(count * hidden));
  const auto new_update = std::make_unique<float[]>(at(count * hidden));
  BlockStep step{};
  step.stream = tokens.stream.data();
  step.update = tokens.update.data();
  step.new_stream = new_stream.get();
  step.new_update = new_update.get();
  step.positions = tokens.positions.data();
  step.slots = tokens.slots.data();
  step.angles = {model.cos.data(), model.sin.data(), head_dim / 2, context};
  step.attention.keys = Pages::cache(pages.keys);
  step.attention.values = Pages::cache(pages.values);
  step.attention.element = CacheElement::fp32;
  step.attention.block_table = tokens.table.data();
  step.attention.lengths = tokens.lengths.data();
  step.attention.q_offsets = tokens.offsets.data();
  step.attention.num_tokens = count;
  step.attention.num_sequences = static_cast<Index>(tokens.lengths.size());
  step.attention.num_blocks = num_blocks;
  step.attention.block_size = block_size;
  step.attention.table_width = 1;
  step.attention.num_heads = heads;
  step.attention.num_kv_heads = kv_heads;
  step.attention.head_dim = head_dim;
  step.attention.split_length = 256;
  step.attention.options.is_causal = true;
  step.attention.options.scale = 0.4f;
  if (!run_block(model.block(), step)) return false;
  stream.insert(stream.end(), new_stream.get(), new_stream.get() + count * hidden);
  update.insert(update.end(), new_update.get(), new_update.get() + count * hidden);
  return true;
}

void sequences_do_not_depend_on_each_other() {
  const Model model;
  const Tokens both{random_floats(5 * hidden, 20), random_floats(5 * hidden, 21),
                    {0, 1, 2, 0, 1},               {4, 5, 6, 8, 9},
                    {1, 2},                        {3, 2},
                    {0, 3, 5}};
  Pages together, apart;
  Floats32 stream, update, stream_apart, update_apart;

  check(run(model, together, both, stream, update), "both run");
  check(run(model, apart, part(both, 0, 3, 1), stream_apart, update_apart), "the first runs");
  check(run(model, apart, part(both, 3, 5, 2), stream_apart, update_apart), "the second runs");

  check(stream == stream_apart && update == update_apart, "bits of the rows");
  check(together.keys == apart.keys && together.values == apart.values, "bits of the pages");
  check(together.keys[at(block_size * kv_heads * head_dim)] != 0, "keys are written");
}

void what_does_not_exist_is_refused() {
  const Model model;
  const Tokens good{random_floats(hidden, 30), random_floats(hidden, 31), {0}, {4}, {1}, {1},
                    {0, 1}};
  Tokens far = good, outside = good, unknown = good;
  far.positions = {context};
  outside.slots = {num_blocks * block_size};
  unknown.table = {num_blocks};
  for (const Tokens& bad : {far, outside, unknown}) {
    Pages pages;
    Floats32 stream, update;
    check(!run(model, pages, bad, stream, update), "is refused");
    check(pages.keys == Pages{}.keys, "nothing is written");
  }
}

}  // namespace

int main() {
  for (const std::string& set : available_instruction_sets()) {
    force_instruction_set(set);
    for (const int threads : {1, 3}) {
      torch_num_threads = threads;
      sequences_do_not_depend_on_each_other();
      what_does_not_exist_is_refused();
    }
  }
}
