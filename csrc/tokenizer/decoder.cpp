#include "tokenizer/decoder.hpp"

#include <stdexcept>

namespace weldlm {

Decoder::Decoder(const std::vector<std::string>& texts, const std::vector<std::string>& first_texts,
                 std::span<const std::uint32_t> silent_ids, bool first_until_text)
    : texts_(texts),
      first_texts_(first_texts.empty() ? std::vector<std::string>(1) : first_texts),
      has_first_texts_(!first_texts.empty()),
      first_until_text_(first_until_text),
      is_silent_(texts.size()) {
  if (has_first_texts_ && first_texts.size() != texts.size()) {
    throw std::invalid_argument(std::to_string(first_texts.size()) + " first texts of " +
                                std::to_string(texts.size()) + " tokens; expected one of each");
  }
  for (const std::uint32_t id : silent_ids) {
    static_cast<void>(texts_.of(id));
    is_silent_[id] = true;
  }
}

std::string_view Decoder::text(std::int64_t id, bool is_first) const {
  const std::string_view later = texts_.of(id);
  if (is_always_silent(id)) return {};
  return is_first && has_first_texts_ ? first_texts_.of(id) : later;
}

std::string Decoder::decode(std::span<const std::int64_t> ids) const {
  std::size_t size = 0;
  for (const std::int64_t id : ids) size += texts_.of(id).size();
  std::string decoded;
  decoded.reserve(size);
  bool is_first = true;
  for (const std::int64_t id : ids) {
    decoded += text(id, is_first);
    is_first = is_first && is_silent(id);
  }
  return decoded;
}

}  // namespace weldlm
