// A parallel loop visits every index once, whatever the sizes, and never nests.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "check.hpp"
#include "cpu/parallel.hpp"
#include "torch_cpu.hpp"

using namespace weldlm::cpu;
using namespace weldlm::test;

namespace {

struct Parts {
  std::vector<int> visits;
  std::atomic<int> count{0};
  std::atomic<std::int64_t> smallest{1 << 30};
};

void visit_all(std::int64_t begin, std::int64_t end, std::int64_t grain, Parts& parts) {
  parallel_for(begin, end, grain, [&](std::int64_t from, std::int64_t to) noexcept {
    ++parts.count;
    std::int64_t smallest = parts.smallest;
    while (to - from < smallest && !parts.smallest.compare_exchange_weak(smallest, to - from)) {
    }
    for (std::int64_t i = from; i < to; ++i) ++parts.visits[static_cast<std::size_t>(i)];
  });
}

void every_index_is_visited_once() {
  for (int threads = 1; threads <= 5; ++threads) {
    torch_num_threads = threads;
    for (std::int64_t size = 0; size <= 40; ++size) {
      for (const std::int64_t grain : {0, 1, 3, 7, 100}) {
        Parts parts{std::vector<int>(static_cast<std::size_t>(size + 4), 0)};
        visit_all(2, 2 + size, grain, parts);
        const auto visited = std::count(parts.visits.begin(), parts.visits.end(), 1);
        check(visited == size && parts.visits[0] == 0, "each index of the range, and no other");
        check(parts.count <= threads, "at most one part a thread");
      }
    }
  }
}

void no_more_threads_than_the_grain_allows() {
  torch_num_threads = 4;
  Parts few{std::vector<int>(12, 0)}, many{std::vector<int>(12, 0)};
  visit_all(0, 12, 5, few);
  visit_all(0, 12, 3, many);
  check(few.count == 2 && few.smallest >= 5, "two parts of six");
  check(many.count == 4 && many.smallest >= 3, "four parts of three");
}

void a_loop_in_a_loop_runs_on_its_thread() {
  torch_num_threads = 3;
  std::atomic<int> strangers{0}, inner_threads{0};
  parallel_for(0, 3, 1, [&](std::int64_t, std::int64_t) noexcept {
    const auto here = std::this_thread::get_id();
    inner_threads += num_threads();
    parallel_for(0, 50, 1, [&](std::int64_t, std::int64_t) noexcept {
      strangers += std::this_thread::get_id() != here;
    });
  });
  check(strangers == 0, "the inner loop stays on its thread");
  check(inner_threads == 3, "one thread is reported in each part");
}

void two_callers_do_not_disturb_each_other() {
  torch_num_threads = 3;
  const auto call = [] {
    for (int repeat = 0; repeat < 50; ++repeat) {
      Parts parts{std::vector<int>(100, 0)};
      visit_all(0, 100, 1, parts);
      check(std::count(parts.visits.begin(), parts.visits.end(), 1) == 100, "each index once");
    }
  };
  std::jthread other(call);
  call();
}

}  // namespace

int main() {
  check(thread_runtime().find("libtorch_cpu.so") != std::string::npos, "the stand-in is found");
  every_index_is_visited_once();
  no_more_threads_than_the_grain_allows();
  a_loop_in_a_loop_runs_on_its_thread();
  two_callers_do_not_disturb_each_other();
}
