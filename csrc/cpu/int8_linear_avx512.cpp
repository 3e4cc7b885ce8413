#include "cpu/int8_tile.hpp"

namespace weldlm::cpu {

const Int8Kernel int8_kernel_avx512 = int8_kernel;

}  // namespace weldlm::cpu
