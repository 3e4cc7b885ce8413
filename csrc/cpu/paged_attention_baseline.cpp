#include "cpu/paged_attention_split.hpp"

namespace weldlm::cpu {

const PagedAttentionKernels paged_attention_baseline{paged_attention_kernels};

}  // namespace weldlm::cpu
