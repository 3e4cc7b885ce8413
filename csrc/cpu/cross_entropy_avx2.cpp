#include "cpu/cross_entropy_row.hpp"

namespace weldlm::cpu {

const CrossEntropyRow cross_entropy_row_avx2{loss_of_row, loss_of_row_with_gradient};

}  // namespace weldlm::cpu
