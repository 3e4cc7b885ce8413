#include "cpu/int8_tile.hpp"

namespace weldlm::cpu {

const Int8Kernel int8_kernel_baseline = int8_kernel;

}  // namespace weldlm::cpu
