#include "torch_cpu.hpp"

#include <thread>
#include <vector>

namespace weldlm::test {

std::atomic<int> torch_num_threads{1};

}  // namespace weldlm::test

namespace {

thread_local int thread_num = 0;
thread_local int team_size = 1;
thread_local bool is_in_parallel = false;

}  // namespace

namespace at {

int get_num_threads() { return weldlm::test::torch_num_threads; }

}  // namespace at

extern "C" {

void GOMP_parallel(void (*region)(void*), void* data, unsigned num_threads, unsigned) {
  const auto run = [=](int thread) {
    thread_num = thread;
    team_size = static_cast<int>(num_threads);
    is_in_parallel = true;
    region(data);
    thread_num = 0;
    team_size = 1;
    is_in_parallel = false;
  };
  std::vector<std::jthread> others;
  for (unsigned thread = 1; thread < num_threads; ++thread) others.emplace_back(run, thread);
  run(0);
}

int omp_get_thread_num() { return thread_num; }
int omp_get_num_threads() { return team_size; }
int omp_in_parallel() { return is_in_parallel ? 1 : 0; }
}
