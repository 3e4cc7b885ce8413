// Extended grapheme clusters (UAX 29): what a reader takes for one character.
#pragma once

#include <cstddef>
#include <string_view>

namespace weldlm {

// The end of the cluster that begins at `start` < text.size().
std::size_t grapheme_end(std::string_view text, std::size_t start) noexcept;

}  // namespace weldlm
