// A stand-in for libtorch_cpu.so and its OpenMP runtime, on threads that a sanitizer understands.
#pragma once

#include <atomic>

namespace weldlm::test {

extern std::atomic<int> torch_num_threads;  // as torch.set_num_threads sets it

}  // namespace weldlm::test
