#include "tokenizer/decoder.hpp"

#include <stdexcept>
#include <utility>

namespace weldlm {

Decoder::Decoder(const std::vector<std::string>& texts, const std::vector<std::string>& first_texts,
                 std::span<const std::uint32_t> silent_ids, bool first_until_text)
    : texts_(texts),
      first_texts_(first_texts.empty() ? std::vector<std::string>(1) : first_texts),
      flags_{first_texts.empty() ? std::uint8_t{0} : std::uint8_t{1},
             first_until_text ? std::uint8_t{1} : std::uint8_t{0}} {
  if (!first_texts.empty() && first_texts.size() != texts.size()) {
    throw std::invalid_argument(std::to_string(first_texts.size()) + " first texts of " +
                                std::to_string(texts.size()) + " tokens; expected one of each");
  }
  std::vector<std::uint8_t> is_silent(texts.size());
  for (const std::uint32_t id : silent_ids) {
    static_cast<void>(texts_.of(id));
    is_silent[id] = 1;
  }
  is_silent_ = FlatArray(std::move(is_silent));
}

Decoder::Decoder(ImageReader& image)
    : texts_(image),
      first_texts_(image),
      flags_(image.value<Flags>()),
      is_silent_(image.array<std::uint8_t>()) {
  const bool fits = flags_.has_first_texts == 0 || first_texts_.size() == texts_.size();
  if (!fits || is_silent_.size() != texts_.size()) {
    throw std::invalid_argument("the texts of the image are not one of each token");
  }
}

void Decoder::write(ImageWriter& image) const {
  texts_.write(image);
  first_texts_.write(image);
  image.add(std::span(&flags_, 1));
  image.add(is_silent_);
}

std::string_view Decoder::text(std::int64_t id, bool is_first) const {
  const std::string_view later = texts_.of(id);
  if (is_always_silent(id)) return {};
  return is_first && flags_.has_first_texts != 0 ? first_texts_.of(id) : later;
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
