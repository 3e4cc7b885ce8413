#include "tokenizer/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace weldlm {

void parallel_for(std::size_t count, std::size_t num_threads,
                  const std::function<void(std::size_t, std::size_t)>& body) {
  std::atomic<std::size_t> next{0};
  std::exception_ptr failure;
  std::mutex failure_mutex;
  const auto work = [&](std::size_t worker) {
    try {
      for (std::size_t i = next++; i < count; i = next++) body(worker, i);
    } catch (...) {
      next = count;
      const std::lock_guard lock(failure_mutex);
      if (!failure) failure = std::current_exception();
    }
  };
  std::vector<std::jthread> threads;
  const std::size_t num_workers = std::min(num_threads, count);
  threads.reserve(num_workers);
  try {
    for (std::size_t worker = 1; worker < num_workers; ++worker) {
      threads.emplace_back(work, worker);
    }
  } catch (const std::system_error&) {
    // the system gives no more threads: those that run share the work
  }
  work(0);
  threads.clear();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace weldlm
