#include "cpu/linear_tile.hpp"

namespace weldlm::cpu {

const LinearPanels linear_panels_avx2 = multiply_panels;

}  // namespace weldlm::cpu
