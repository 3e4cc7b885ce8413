#include "tokenizer/normalizer.hpp"

#include "tokenizer/unicode.hpp"

namespace weldlm {

NormalizedText::NormalizedText(std::string_view text, Origins origins)
    : text_(text), kind_(origins) {
  if (!has_origins()) return;
  origins_.reserve(text.size());
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = begin + char_at(text, begin).size;
    origins_.insert(origins_.end(), end - begin, ByteRange{begin, end});
    begin = end;
  }
}

ByteRange NormalizedText::origin(std::size_t begin, std::size_t end) const noexcept {
  if (begin < end) return {origins_[begin].begin, origins_[end - 1].end};
  if (begin < origins_.size()) return {origins_[begin].begin, origins_[begin].begin};
  const std::size_t last = origins_.empty() ? 0 : origins_.back().end;
  return {last, last};
}

void NormalizedText::restart(const NormalizedText& source) {
  text_.clear();
  origins_.clear();
  kind_ = source.kind_;
  begins_original_ = true;
  text_.reserve(source.text_.size());
}

void NormalizedText::copy(const NormalizedText& source, std::size_t begin, std::size_t end) {
  if (text_.empty()) begins_original_ = source.begins_original_ && begin == 0;
  text_.append(source.text_, begin, end - begin);
  if (!has_origins()) return;
  const auto first = source.origins_.begin();
  origins_.insert(origins_.end(), first + static_cast<std::ptrdiff_t>(begin),
                  first + static_cast<std::ptrdiff_t>(end));
}

void NormalizedText::replace(const NormalizedText& source, std::size_t begin, std::size_t end,
                             std::string_view bytes) {
  if (text_.empty()) begins_original_ = source.begins_original_ && begin == 0;
  text_ += bytes;
  if (has_origins()) origins_.insert(origins_.end(), bytes.size(), source.origin(begin, end));
}

void NormalizedText::replace_showing(const NormalizedText& source, std::size_t begin,
                                     ByteRange shown, std::string_view bytes) {
  const bool begins_original =
      text_.empty() ? source.begins_original_ && begin == 0 : begins_original_;
  replace(source, shown.begin, shown.end, bytes);
  begins_original_ = begins_original;
}

void NormalizedText::replace_at_end(const NormalizedText& source, std::size_t begin,
                                    std::size_t end, std::string_view bytes) {
  std::size_t shown = begin;
  if (kind_ == Origins::offsets) {
    shown = end - 1;
    while (shown > begin && is_continuation(source.text_, shown)) --shown;
  }
  replace_showing(source, begin, {shown, end}, bytes);
}

void NormalizedText::substitute(const NormalizedText& source, std::size_t begin,
                                std::string_view bytes) {
  if (text_.empty()) begins_original_ = source.begins_original_ && begin == 0;
  text_ += bytes;
  if (!has_origins()) return;
  const auto first = source.origins_.begin() + static_cast<std::ptrdiff_t>(begin);
  origins_.insert(origins_.end(), first, first + static_cast<std::ptrdiff_t>(bytes.size()));
}

void NormalizedText::truncate(std::size_t size) {
  text_.resize(size);
  if (has_origins()) origins_.resize(size);
}

std::string normalized_text(const Normalizer* normalizer, std::string_view text) {
  if (normalizer == nullptr) return std::string(text);
  NormalizedText result;
  normalizer->normalize(NormalizedText(text, Origins::none), true, result);
  return std::string(result.text());
}

void NormalizerSequence::normalize(const NormalizedText& source, bool is_start,
                                   NormalizedText& result) const {
  if (steps_.empty()) {
    result.restart(source);
    result.copy(source, 0, source.text().size());
    return;
  }
  NormalizedText previous;
  const NormalizedText* input = &source;
  for (const auto& step : steps_) {
    if (input != &source) std::swap(previous, result);
    step->normalize(*input, is_start, result);
    input = &previous;
  }
}

}  // namespace weldlm
