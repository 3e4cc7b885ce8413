// A loop over threads that live no longer than the call, so that a fork finds none.
#pragma once

#include <cstddef>
#include <functional>

namespace weldlm {

// Calls body(worker, index) once for every index < count, worker < num_threads, in no fixed order
// over the workers but in ascending order within one. The calling thread is worker 0. The first
// exception ends the loop and is thrown here.
void parallel_for(std::size_t count, std::size_t num_threads,
                  const std::function<void(std::size_t worker, std::size_t index)>& body);

}  // namespace weldlm
