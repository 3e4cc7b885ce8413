#pragma once

#include <string>
#include <string_view>
#include <vector>

// Which instruction set the kernels take: chosen once from what the processor has, and forced by
// tests. A kernel is one header of loops, compiled in <kernel>_baseline.cpp for any processor, in
// <kernel>_avx2.cpp for AVX2 + FMA + F16C and, where that is worth it, in <kernel>_avx512.cpp for
// AVX-512 F, BW, VL, DQ and VNNI besides; <kernel>.cpp picks one with variant().
namespace weldlm::cpu {

// Each holds those before it.
enum class InstructionSet { baseline, avx2, avx512 };

[[nodiscard]] InstructionSet instruction_set() noexcept;

// Names of what this processor can run, best last.
[[nodiscard]] std::vector<std::string> available_instruction_sets();

[[nodiscard]] std::string name(InstructionSet set);

// Takes `name` for the whole process until forced again. Throws std::invalid_argument if this
// processor has no such instruction set.
void force_instruction_set(std::string_view name);

// What instruction_set() takes of a kernel's variants.
template <class Kernel>
[[nodiscard]] const Kernel& variant(const Kernel& baseline, const Kernel& avx2) noexcept {
  return instruction_set() >= InstructionSet::avx2 ? avx2 : baseline;
}

template <class Kernel>
[[nodiscard]] const Kernel& variant(const Kernel& baseline, const Kernel& avx2,
                                    const Kernel& avx512) noexcept {
  return instruction_set() >= InstructionSet::avx512 ? avx512 : variant(baseline, avx2);
}

}  // namespace weldlm::cpu
