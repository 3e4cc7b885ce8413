#pragma once

#include <string>
#include <string_view>
#include <vector>

// Which instruction set the kernels take: chosen once from what the processor has, and forced by
// tests. A kernel is one header of loops, compiled in <kernel>_baseline.cpp for any processor and
// in <kernel>_avx2.cpp for AVX2 + FMA + F16C; <kernel>.cpp picks one by instruction_set().
namespace weldlm::cpu {

enum class InstructionSet { baseline, avx2 };

[[nodiscard]] InstructionSet instruction_set() noexcept;

// Names of what this processor can run, best last.
[[nodiscard]] std::vector<std::string> available_instruction_sets();

[[nodiscard]] std::string name(InstructionSet set);

// Takes `name` for the whole process until forced again. Throws std::invalid_argument if this
// processor has no such instruction set.
void force_instruction_set(std::string_view name);

}  // namespace weldlm::cpu
