#include "cpu/linear_tile.hpp"

namespace weldlm::cpu {

const LinearPanels linear_panels_baseline = multiply_panels;

}  // namespace weldlm::cpu
