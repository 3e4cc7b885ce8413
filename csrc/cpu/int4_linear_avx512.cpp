#include "cpu/int4_tile.hpp"

namespace weldlm::cpu {

const Int4Kernel int4_kernel_avx512 = int4_kernel;

}  // namespace weldlm::cpu
