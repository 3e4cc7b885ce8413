#pragma once

#include <cstdint>

// How the weight [N, K] of a linear layer lies in memory for the CPU kernels. One layout serves all
// instruction sets. Output channels stand in panels of 16, the last one filled up, and a panel is
// read from front to back while K is walked once:
//   fp32  [panels, K, 16] floats.
//   int8  [panels, ceil(K / 4), 16, 4] bytes: for each channel four neighbors along K, each stored
//         plus 128; K is filled up with weights 0 (bytes of 128). Scales: [panels * 16] floats.
//   int4  [panels, K / 32, 4, 16, 4] bytes: byte (t, channel, j) of a block of 32 along K holds the
//         weight at k = 4 t + j in its low half and the one at k = 16 + 4 t + j in its high half,
//         each as 0 to 15. Scales: [panels, K / group_size, 16] fp16; minimums, where a weight has
//         any, the same, else each minimum is -8 scales.
// Bytes are unsigned because vpmaddubsw and VNNI multiply unsigned by signed bytes, and the
// activation is the operand that VNNI takes from memory, thus the signed one.
namespace weldlm::cpu {

constexpr std::int64_t panel_channels = 16;
constexpr std::int64_t int4_block = 32;  // weights along K that share 4 rows of bytes

constexpr std::int64_t panel_count(std::int64_t out_features) noexcept {
  return (out_features + panel_channels - 1) / panel_channels;
}

// Bytes along K of one channel of an int8 panel, and of one quantized activation row there.
constexpr std::int64_t int8_depth(std::int64_t in_features) noexcept {
  return (in_features + 3) / 4 * 4;
}

}  // namespace weldlm::cpu
