#include "cpu/dispatch.hpp"

#include <atomic>
#include <stdexcept>

namespace weldlm::cpu {
namespace {

bool has_avx2() noexcept {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
#else
  return false;
#endif
}

bool has_avx512() noexcept {
#if defined(__x86_64__)
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

std::vector<InstructionSet> available() {
  std::vector<InstructionSet> sets{InstructionSet::baseline};
  if (has_avx2()) sets.push_back(InstructionSet::avx2);
  if (has_avx512()) sets.push_back(InstructionSet::avx512);
  return sets;
}

InstructionSet best() noexcept {
  if (has_avx512()) return InstructionSet::avx512;
  return has_avx2() ? InstructionSet::avx2 : InstructionSet::baseline;
}

std::atomic<InstructionSet>& current() noexcept {
  static std::atomic<InstructionSet> set{best()};
  return set;
}

}  // namespace

InstructionSet instruction_set() noexcept { return current().load(std::memory_order_relaxed); }

std::vector<std::string> available_instruction_sets() {
  std::vector<std::string> names;
  for (const InstructionSet set : available()) names.push_back(name(set));
  return names;
}

std::string name(InstructionSet set) {
  switch (set) {
    case InstructionSet::avx512:
      return "avx512";
    case InstructionSet::avx2:
      return "avx2";
    case InstructionSet::baseline:
      break;
  }
  return "baseline";
}

void force_instruction_set(std::string_view wanted) {
  std::string message = "instruction set is '";
  message.append(wanted).append("'; expected one of:");
  for (const InstructionSet set : available()) {
    if (name(set) == wanted) return current().store(set, std::memory_order_relaxed);
    message.append(" ").append(name(set));
  }
  throw std::invalid_argument(message);
}

}  // namespace weldlm::cpu
