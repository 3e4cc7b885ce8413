#include "cpu/norm_row.hpp"

namespace weldlm::cpu {

const NormRows layer_norm_rows_baseline = layer_norm_rows;
const NormRows rms_norm_rows_baseline = rms_norm_rows;

}  // namespace weldlm::cpu
