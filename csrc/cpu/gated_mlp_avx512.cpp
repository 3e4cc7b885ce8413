#include "cpu/gated_mlp_row.hpp"

namespace weldlm::cpu {

const GatedMlpRows gated_mlp_rows_avx512 = gated_mlp_rows;

}  // namespace weldlm::cpu
