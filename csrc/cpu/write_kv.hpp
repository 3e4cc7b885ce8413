#pragma once

#include <cstdint>

#include "cpu/paged_cache.hpp"

namespace weldlm::cpu {

// New keys or values of some tokens [num_tokens, num_kv_heads, head_dim] and the pages they go to.
struct CacheWrite {
  const float* rows;
  std::int64_t token_stride, head_stride;
  PagedCache cache;
  CacheElement element;       // fp32 or int8
  const std::int64_t* slots;  // [num_tokens]: block * block_size + token; -1: not written
  std::int64_t num_tokens, num_kv_heads, head_dim, block_size, num_blocks;
};

// Whether the slots lie in the cache.
[[nodiscard]] bool has_slots(const CacheWrite& write) noexcept;

// int8: each head of a token in steps of its largest magnitude / 127, rounded to even, with that
// scale.
void write_cache(const CacheWrite& write) noexcept;

}  // namespace weldlm::cpu
