// Where text may be cut before U+2581, the character that stands for a space in SentencePiece
// vocabularies, so that no token of a vocabulary crosses the cut.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace weldlm {

inline constexpr std::string_view metaspace = "\xE2\x96\x81";

inline bool has_metaspace(std::string_view text, std::size_t pos) noexcept {
  return text.substr(pos, metaspace.size()) == metaspace;
}

// The first U+2581 at or after `pos`, or the size of the text.
inline std::size_t find_metaspace(std::string_view text, std::size_t pos) noexcept {
  const std::size_t found = text.find(metaspace, pos);
  return found == std::string_view::npos ? text.size() : found;
}

enum class MetaspaceCuts : std::uint8_t { nowhere, before_runs, before_each };

// The most cuts that the token allows, given those that the ones before it allow.
inline MetaspaceCuts cuts_with(MetaspaceCuts cuts, std::string_view token) noexcept {
  bool in_run = has_metaspace(token, 0);
  for (std::size_t pos = in_run ? metaspace.size() : 1; pos < token.size();) {
    if (!has_metaspace(token, pos)) {
      in_run = false;
      ++pos;
      continue;
    }
    if (!in_run) return MetaspaceCuts::nowhere;
    if (cuts == MetaspaceCuts::before_each) cuts = MetaspaceCuts::before_runs;
    pos += metaspace.size();
  }
  return cuts;
}

// The most cuts that all tokens allow.
inline MetaspaceCuts cuts_of(std::span<const std::string> tokens) noexcept {
  MetaspaceCuts cuts = MetaspaceCuts::before_each;
  for (const std::string& token : tokens) {
    cuts = cuts_with(cuts, token);
    if (cuts == MetaspaceCuts::nowhere) break;
  }
  return cuts;
}

// The end of the part that begins at `start` < text.size().
inline std::size_t part_end(std::string_view text, std::size_t start, MetaspaceCuts cuts) noexcept {
  if (cuts == MetaspaceCuts::nowhere) return text.size();
  std::size_t pos = start;
  if (cuts == MetaspaceCuts::before_runs) {
    while (has_metaspace(text, pos)) pos += metaspace.size();
    return find_metaspace(text, pos);
  }
  return find_metaspace(text, start + (has_metaspace(text, start) ? metaspace.size() : 0));
}

}  // namespace weldlm
