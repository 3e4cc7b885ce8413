// The merges of a BPE over characters, written as pairs of symbols.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tokenizer/merge_table.hpp"
#include "tokenizer/pair_ranks.hpp"

namespace weldlm {

// A symbol is the id of a token, or, from the number of tokens on, one of `characters`, which
// occur in tokens but are none.
struct CharacterMerges {
  std::vector<RankedMerge> merges;
  std::vector<std::string> characters;
};

// Whatever two symbols end to end are a token merge, the highest score first. Only `merged_ids`
// are looked at. Throws std::invalid_argument on an id out of range or a score that is no number.
CharacterMerges merges_by_score(std::span<const std::string> tokens,
                                std::span<const std::uint32_t> merged_ids,
                                std::span<const float> scores);

// The merges in their order. Throws std::invalid_argument on an id out of range or a merge whose
// result is not its parts end to end.
CharacterMerges merges_by_rank(std::span<const std::string> tokens, std::span<const Merge> merges);

}  // namespace weldlm
