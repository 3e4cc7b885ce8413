#pragma once

#include <cstdint>
#include <string>
#include <type_traits>

// Parallel loops on the OpenMP runtime that torch has already loaded, so that a process holds one
// pool of threads. The runtime is looked up at run time: nothing here is compiled or linked with
// OpenMP. Without torch in the process loops run on the calling thread.
namespace weldlm::cpu {

// What a loop runs on a part [begin, end) of its range. An exception cannot leave an OpenMP region,
// hence the demand for noexcept.
template <class F>
concept ChunkFunction = std::is_nothrow_invocable_v<F&, std::int64_t, std::int64_t>;

// The largest number of threads a loop takes now; follows torch.set_num_threads. 1 inside a loop.
[[nodiscard]] int num_threads() noexcept;

// Path of the OpenMP runtime in use; empty if there is none.
[[nodiscard]] std::string thread_runtime();

using ChunkCall = void (*)(void* f, std::int64_t begin, std::int64_t end) noexcept;
void run_chunks(std::int64_t begin, std::int64_t end, std::int64_t grain, ChunkCall call,
                void* f) noexcept;

// Runs f(part_begin, part_end) on at most num_threads() consecutive parts of [begin, end), so few
// that `grain` indices fall to each on average. A kernel whose result must not depend on the split
// loops over its own numbered parts with grain 1.
template <ChunkFunction F>
void parallel_for(std::int64_t begin, std::int64_t end, std::int64_t grain, F&& f) noexcept {
  using Function = std::remove_reference_t<F>;
  const ChunkCall call = [](void* g, std::int64_t from, std::int64_t to) noexcept {
    (*static_cast<Function*>(g))(from, to);
  };
  run_chunks(begin, end, grain, call, const_cast<void*>(static_cast<const void*>(&f)));
}

}  // namespace weldlm::cpu
