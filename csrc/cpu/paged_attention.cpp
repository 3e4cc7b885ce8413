#include "cpu/paged_attention.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "cpu/dispatch.hpp"
#include "cpu/parallel.hpp"

namespace weldlm::cpu {
namespace {

// Products of a query and a key's elements that are worth a thread.
constexpr std::int64_t products_per_thread = 1 << 18;

// What one thread does at a time: rows and the splits that they see. Where `slot` is 0 or more, the
// item has one split, whose states go there and behind; else it adds up all, for one head.
struct Item {
  AttentionRows rows;
  std::int64_t first_split, end_split;
  std::int64_t slot;
};

// Rows of one head whose splits lie in slots that are slot_step apart.
struct Merge {
  AttentionRows rows;
  std::int64_t first_slot, num_slots, slot_step;
};

struct Plan {
  std::int64_t heads_per_item = 1;
  std::vector<Item> items;
  std::vector<Merge> merges;
  std::int64_t num_slots = 0;
  std::int64_t num_products = 0;
  std::int64_t most_rows = 0;
};

std::int64_t divide_up(std::int64_t a, std::int64_t b) noexcept { return (a + b - 1) / b; }

KeyRange visible_to_rows(const PagedAttention& attention, const AttentionRows& rows) noexcept {
  const std::int64_t group = attention.num_heads / attention.num_kv_heads;
  const KeyRange first = visible_keys(attention, rows.sequence, rows.first / group);
  const KeyRange last =
      visible_keys(attention, rows.sequence, (rows.first + rows.count - 1) / group);
  return {first.begin, std::max(first.begin, last.end)};
}

// All splits of a head's rows, of which the sequence has more: no thread waits for work.
void plan_many_rows(const PagedAttention& attention, AttentionRows rows, KeyRange splits,
                    Plan& plan) {
  rows.num_kv_heads = 1;
  for (rows.first_kv_head = 0; rows.first_kv_head < attention.num_kv_heads; ++rows.first_kv_head)
    plan.items.push_back({rows, splits.begin, splits.end, -1});
}

// A split at a time, with several heads: the keys of a token lie side by side.
void plan_few_rows(const PagedAttention& attention, AttentionRows rows, KeyRange splits,
                   Plan& plan) {
  const std::int64_t heads = attention.num_kv_heads, first_slot = plan.num_slots;
  for (std::int64_t split = splits.begin; split < splits.end; ++split, plan.num_slots += heads) {
    for (std::int64_t head = 0; head < heads; head += plan.heads_per_item) {
      rows.first_kv_head = head;
      rows.num_kv_heads = std::min(plan.heads_per_item, heads - head);
      plan.items.push_back({rows, split, split + 1, plan.num_slots + head});
    }
  }
  rows.num_kv_heads = 1;
  for (std::int64_t head = 0; head < heads; ++head) {
    rows.first_kv_head = head;
    plan.merges.push_back({rows, first_slot + head, splits.end - splits.begin, heads});
  }
}

void plan_rows(const PagedAttention& attention, const AttentionRows& rows, bool is_alone,
               Plan& plan) {
  const KeyRange keys = visible_to_rows(attention, rows);
  const KeyRange splits{keys.begin / attention.split_length,
                        divide_up(keys.end, attention.split_length)};
  plan.num_products +=
      (keys.end - keys.begin) * rows.count * attention.num_kv_heads * attention.head_dim;
  plan.most_rows = std::max(plan.most_rows, rows.count);
  if (is_alone) return plan_few_rows(attention, rows, splits, plan);
  plan_many_rows(attention, rows, splits, plan);
}

// As many as leave some items to each thread.
std::int64_t heads_per_item(const PagedAttention& attention) noexcept {
  constexpr std::int64_t items_per_thread = 4;
  std::int64_t num_splits = 0;
  for (std::int64_t sequence = 0; sequence < attention.num_sequences; ++sequence)
    num_splits += divide_up(attention.lengths[sequence], attention.split_length);
  return std::clamp<std::int64_t>(
      attention.num_kv_heads * num_splits / (items_per_thread * num_threads()), 1,
      attention.num_kv_heads);
}

Plan make_plan(const PagedAttention& attention) {
  Plan plan;
  plan.heads_per_item = heads_per_item(attention);
  const std::int64_t group = attention.num_heads / attention.num_kv_heads;
  for (std::int64_t sequence = 0; sequence < attention.num_sequences; ++sequence) {
    const std::int32_t* bounds = attention.q_offsets + sequence;
    const std::int64_t num_rows = (bounds[1] - bounds[0]) * group;
    for (std::int64_t first = 0; first < num_rows; first += rows_per_tile) {
      const std::int64_t count = std::min(rows_per_tile, num_rows - first);
      plan_rows(attention, {sequence, 0, 0, first, count}, num_rows <= rows_per_tile, plan);
    }
  }
  return plan;
}

std::unique_ptr<float[]> allocate(std::int64_t size) {
  return std::make_unique_for_overwrite<float[]>(static_cast<std::size_t>(size));
}

// Sums relative to one highest score, from those relative to two.
void merge(const SoftmaxState& part, std::int64_t num_rows, std::int64_t width,
           const SoftmaxState& total) noexcept {
  for (std::int64_t row = 0; row < num_rows; ++row) {
    // NaN in sums and values goes its own way
    const float highest = std::max(total.highest[row], part.highest[row]);
    const float shift = std::isinf(highest) && highest < 0 ? 0 : highest;
    const float old_factor = std::exp(total.highest[row] - shift);
    const float factor = std::exp(part.highest[row] - shift);
    total.highest[row] = highest;
    total.sums[row] = total.sums[row] * old_factor + part.sums[row] * factor;
    float* values = total.values + row * width;
    const float* more = part.values + row * width;
    for (std::int64_t i = 0; i < width; ++i) values[i] = values[i] * old_factor + more[i] * factor;
  }
}

void clear(std::int64_t num_rows, std::int64_t width, const SoftmaxState& state) noexcept {
  std::fill_n(state.highest, num_rows, -std::numeric_limits<float>::infinity());
  std::fill_n(state.sums, num_rows, 0.0f);
  std::fill_n(state.values, num_rows * width, 0.0f);
}

// A row that has seen no key gives 0.
void write_rows(const PagedAttention& attention, const AttentionRows& rows,
                const SoftmaxState& state) noexcept {
  const std::int64_t group = attention.num_heads / attention.num_kv_heads;
  const std::int64_t size = attention.head_dim, width = state_width(size);
  for (std::int64_t row = 0; row < rows.count; ++row) {
    const std::int64_t token =
        attention.q_offsets[rows.sequence] + (rows.first + row) / group;
    const std::int64_t head = rows.first_kv_head * group + (rows.first + row) % group;
    float* out = attention.out + (token * attention.num_heads + head) * size;
    const float* values = state.values + row * width;
    const float sum = state.sums[row] == 0 ? 1 : state.sums[row];
    for (std::int64_t i = 0; i < size; ++i) out[i] = values[i] / sum;
  }
}

void zero_rows_behind(const PagedAttention& attention) noexcept {
  const std::int64_t used = attention.q_offsets[attention.num_sequences];
  const std::int64_t width = attention.num_heads * attention.head_dim;
  std::fill_n(attention.out + used * width, (attention.num_tokens - used) * width, 0.0f);
}

class Run {
 public:
  explicit Run(const PagedAttention& attention)
      : attention_(attention),
        attend_split_(variant(paged_attention_baseline, paged_attention_avx2,
                              paged_attention_avx512)
                          .attend_split[static_cast<int>(attention.element)]),
        plan_(make_plan(attention)),
        width_(state_width(attention.head_dim)),
        num_workers_(std::clamp<std::int64_t>(plan_.num_products / products_per_thread, 1,
                                              num_threads())),
        scratch_size_(scratch_size(plan_.heads_per_item, plan_.most_rows, attention.head_dim)),
        state_size_(SoftmaxStates{nullptr, plan_.most_rows, width_}.size()),
        scratch_(allocate(num_workers_ * scratch_size_)),
        states_(allocate((plan_.num_slots + 2 * num_workers_) * state_size_)) {}

  void operator()() noexcept {
    const auto num_items = static_cast<std::int64_t>(plan_.items.size());
    take_turns(num_items, [this](std::int64_t item, std::int64_t worker) noexcept {
      attend(plan_.items[static_cast<std::size_t>(item)], worker);
    });
    const auto num_merges = static_cast<std::int64_t>(plan_.merges.size());
    take_turns(num_merges, [this](std::int64_t merge, std::int64_t worker) noexcept {
      merge_slots(plan_.merges[static_cast<std::size_t>(merge)], worker);
    });
  }

 private:
  // Each worker takes the next item when it has done one: items differ in length.
  template <class Visit>
  void take_turns(std::int64_t count, Visit visit) noexcept {
    std::atomic<std::int64_t> next{0};
    const std::int64_t workers = std::min(num_workers_, count);
    parallel_for(0, workers, 1, [&](std::int64_t begin, std::int64_t end) noexcept {
      for (std::int64_t worker = begin; worker < end; ++worker) {
        std::int64_t item;
        while ((item = next.fetch_add(1, std::memory_order_relaxed)) < count) visit(item, worker);
      }
    });
  }

  // States from slot `index` on; two for each worker come before the slots.
  SoftmaxStates slots_from(std::int64_t index) const noexcept {
    return {states_.get() + (2 * num_workers_ + index) * state_size_, plan_.most_rows, width_};
  }

  SoftmaxStates states_of(std::int64_t worker) const noexcept {
    return {states_.get() + 2 * worker * state_size_, plan_.most_rows, width_};
  }

  void attend(const Item& item, std::int64_t worker) noexcept {
    if (item.slot >= 0)
      return attend_to(item.rows, item.first_split, slots_from(item.slot), worker);
    const SoftmaxStates own = states_of(worker);
    clear(item.rows.count, width_, own[1]);
    for (std::int64_t split = item.first_split; split < item.end_split; ++split) {
      attend_to(item.rows, split, own, worker);
      merge(own[0], item.rows.count, width_, own[1]);
    }
    write_rows(attention_, item.rows, own[1]);
  }

  void attend_to(const AttentionRows& rows, std::int64_t split, const SoftmaxStates& states,
                 std::int64_t worker) noexcept {
    const KeyRange visible = visible_to_rows(attention_, rows);
    const std::int64_t begin = split * attention_.split_length;
    const std::int64_t end = std::min(begin + attention_.split_length, visible.end);
    const std::int64_t first = std::max(begin, visible.begin / keys_per_tile * keys_per_tile);
    attend_split_(attention_, rows, {first, end}, states, scratch_.get() + worker * scratch_size_);
  }

  void merge_slots(const Merge& merge_of, std::int64_t worker) noexcept {
    const SoftmaxState total = states_of(worker)[0];
    const SoftmaxStates slots = slots_from(merge_of.first_slot);
    clear(merge_of.rows.count, width_, total);
    for (std::int64_t i = 0; i < merge_of.num_slots; ++i)
      merge(slots[i * merge_of.slot_step], merge_of.rows.count, width_, total);
    write_rows(attention_, merge_of.rows, total);
  }

  const PagedAttention& attention_;
  const AttendSplit attend_split_;
  const Plan plan_;
  const std::int64_t width_, num_workers_, scratch_size_, state_size_;
  const std::unique_ptr<float[]> scratch_, states_;
};

}  // namespace

KeyRange visible_keys(const PagedAttention& attention, std::int64_t sequence,
                      std::int64_t token) noexcept {
  const std::int32_t* bounds = attention.q_offsets + sequence;
  const std::int64_t length = attention.lengths[sequence], window = attention.options.window;
  const std::int64_t position = token + length - (bounds[1] - bounds[0]);
  KeyRange keys{0, length};
  if (attention.options.is_causal) keys.end = std::clamp<std::int64_t>(position + 1, 0, length);
  if (window == 0) return keys;
  keys.begin = std::max<std::int64_t>(0, position - window + 1);
  keys.end = std::min(keys.end, position + window);
  return keys;
}

std::int64_t scratch_size(std::int64_t num_kv_heads, std::int64_t num_rows,
                          std::int64_t head_dim) noexcept {
  constexpr std::int64_t most_lanes = 16;
  const std::int64_t width = state_width(head_dim);
  return 2 * width * keys_per_tile + rows_per_tile * keys_per_tile +
         num_kv_heads * num_rows * (width + most_lanes);
}

bool is_readable(const PagedAttention& attention) noexcept {
  const std::int32_t* offsets = attention.q_offsets;
  if (offsets[0] != 0 || offsets[attention.num_sequences] > attention.num_tokens) return false;
  for (std::int64_t sequence = 0; sequence < attention.num_sequences; ++sequence) {
    const std::int64_t length = attention.lengths[sequence];
    if (offsets[sequence] > offsets[sequence + 1] || length < 0) return false;
    const std::int64_t used = divide_up(length, attention.block_size);
    if (used > attention.table_width) return false;
    const std::int32_t* entries = attention.block_table + sequence * attention.table_width;
    const auto exists = [&](std::int32_t block) {
      return block >= 0 && block < attention.num_blocks;
    };
    if (!std::all_of(entries, entries + used, exists)) return false;
  }
  return true;
}

void paged_attention(const PagedAttention& attention) {
  zero_rows_behind(attention);
  Run{attention}();
}

}  // namespace weldlm::cpu
