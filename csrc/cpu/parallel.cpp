#include "cpu/parallel.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <atomic>

namespace weldlm::cpu {
namespace {

// Entry points that GCC's, LLVM's and Intel's runtimes share, and torch's own thread count: the
// runtime keeps its count for each calling thread apart, and torch hands torch.set_num_threads on
// to a new thread only when asked for the count there.
struct OpenMp {
  using Region = void (*)(void*);
  void (*parallel)(Region region, void* data, unsigned num_threads, unsigned flags) = nullptr;
  int (*get_thread_num)() = nullptr;
  int (*get_num_threads)() = nullptr;
  int (*in_parallel)() = nullptr;
  int (*torch_num_threads)() = nullptr;
};

template <class Function>
bool resolve(void* library, const char* name, Function& function) noexcept {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

bool resolve_runtime(void* library, OpenMp& openmp) noexcept {
  return resolve(library, "GOMP_parallel", openmp.parallel) &&
         resolve(library, "omp_get_thread_num", openmp.get_thread_num) &&
         resolve(library, "omp_get_num_threads", openmp.get_num_threads) &&
         resolve(library, "omp_in_parallel", openmp.in_parallel);
}

bool resolve_torch_num_threads(void* torch, OpenMp& openmp) noexcept {
  return resolve(torch, "_ZN2at15get_num_threadsEv", openmp.torch_num_threads) ||
         resolve(torch, "omp_get_max_threads", openmp.torch_num_threads);
}

// Looks where torch's own symbols were looked up: in the global scope, which a preloaded runtime
// joins, then among the libraries torch was linked with.
OpenMp find_openmp() noexcept {
  OpenMp openmp;
  void* torch = dlopen("libtorch_cpu.so", RTLD_NOLOAD | RTLD_LAZY);
  if (torch == nullptr) return {};
  if (!resolve_runtime(RTLD_DEFAULT, openmp) && !resolve_runtime(torch, openmp)) return {};
  return resolve_torch_num_threads(torch, openmp) ? openmp : OpenMp{};
}

// Null until a runtime is found; looked up again until then, since torch may be loaded later.
const OpenMp* openmp() noexcept {
  static std::atomic<const OpenMp*> current{nullptr};
  if (const OpenMp* known = current.load(std::memory_order_acquire)) return known;
  const OpenMp found = find_openmp();
  if (found.parallel == nullptr) return nullptr;
  static const OpenMp kept = found;
  current.store(&kept, std::memory_order_release);
  return &kept;
}

struct Loop {
  const OpenMp& openmp;
  std::int64_t begin, end;
  ChunkCall call;
  void* f;
};

void run_my_chunk(void* data) noexcept {
  const Loop& loop = *static_cast<const Loop*>(data);
  const std::int64_t parts = loop.openmp.get_num_threads(), part = loop.openmp.get_thread_num();
  const std::int64_t size = (loop.end - loop.begin + parts - 1) / parts;
  const std::int64_t begin = loop.begin + part * size;
  const std::int64_t end = std::min(begin + size, loop.end);
  if (begin < end) loop.call(loop.f, begin, end);
}

}  // namespace

int num_threads() noexcept {
  const OpenMp* runtime = openmp();
  if (runtime == nullptr || runtime->in_parallel() != 0) return 1;
  return std::max(1, runtime->torch_num_threads());
}

std::string thread_runtime() {
  const OpenMp* runtime = openmp();
  Dl_info library{};
  if (runtime == nullptr) return {};
  if (dladdr(reinterpret_cast<void*>(runtime->parallel), &library) == 0) return {};
  return library.dli_fname;
}

void run_chunks(std::int64_t begin, std::int64_t end, std::int64_t grain, ChunkCall call,
                void* f) noexcept {
  if (begin >= end) return;
  const std::int64_t most_parts = (end - begin) / std::max<std::int64_t>(1, grain);
  const std::int64_t parts = std::min<std::int64_t>(num_threads(), most_parts);
  if (parts <= 1) return call(f, begin, end);
  const OpenMp& runtime = *openmp();
  Loop loop{runtime, begin, end, call, f};
  runtime.parallel(run_my_chunk, &loop, static_cast<unsigned>(parts), 0);
}

}  // namespace weldlm::cpu
