#include "tokenizer/trainer.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <utility>

namespace weldlm {
namespace {

bool is_printable(std::size_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

// The tokens that are always there.
struct FirstTokens {
  TokenNames names;
  std::array<std::uint32_t, 256> byte_ids;
};

FirstTokens first_tokens(const std::vector<std::string>& special_tokens) {
  FirstTokens first{};
  for (const std::string& token : special_tokens) {
    // one of printable ASCII is also the name of the merged token of these bytes
    const bool is_merge_name =
        std::all_of(token.begin(), token.end(), [](char c) { return c >= 0x21 && c <= 0x7E; });
    if (is_merge_name) {
      first.names.id_of(token);
    } else {
      first.names.add_unnamed(token);
    }
  }
  for (const unsigned char byte : byte_alphabet()) {
    first.byte_ids[byte] = first.names.id_of(std::string(1, static_cast<char>(byte)));
  }
  return first;
}

SymbolWords symbol_words(const std::vector<WordCounts::Word>& words,
                         const std::array<std::uint32_t, 256>& byte_ids) {
  SymbolWords result;
  for (const auto& [bytes, count] : words) {
    for (const char byte : bytes) {
      result.symbols.push_back(byte_ids[static_cast<unsigned char>(byte)]);
    }
    result.end_word(count);
  }
  return result;
}

void require_options(const BpeTrainingOptions& options) {
  const std::size_t num_special_tokens = options.special_tokens.size();
  const std::size_t least = 256 + num_special_tokens;
  if (options.vocab_size < static_cast<std::int64_t>(least)) {
    throw std::invalid_argument("vocab_size=" + std::to_string(options.vocab_size) +
                                ", expected at least " + std::to_string(least) +
                                ": 256 bytes and " + std::to_string(num_special_tokens) +
                                " special tokens are always there");
  }
  if (options.min_frequency < 1) {
    throw std::invalid_argument("min_frequency=" + std::to_string(options.min_frequency) +
                                ", expected at least 1");
  }
}

}  // namespace

void BpeTrainer::feed(std::span<const std::string_view> texts, std::size_t num_threads) {
  words_.feed(texts, num_threads, [this](std::string_view text, WordCounts& counts) {
    std::vector<ByteRange> pieces;
    for (std::size_t start = 0; start < text.size();) {
      pieces.clear();
      start = pretokenizer_->split(text, start, pieces);
      for (const auto& [begin, end] : pieces) counts.add(text.substr(begin, end - begin), 1);
    }
  });
}

TrainedBpe BpeTrainer::train(const BpeTrainingOptions& options, const TrainingProgress& progress) {
  require_options(options);
  FirstTokens first = first_tokens(options.special_tokens);
  std::vector<Merge> merges =
      learn_merges(first.names, symbol_words(words_.joined(), first.byte_ids),
                   {options.vocab_size, options.min_frequency, {}}, progress);
  return {first.names.take(), std::move(merges)};
}

std::vector<unsigned char> byte_alphabet() {
  std::vector<unsigned char> bytes;
  for (std::size_t byte = 0; byte < 256; ++byte) {
    if (is_printable(byte)) bytes.push_back(static_cast<unsigned char>(byte));
  }
  for (std::size_t byte = 0; byte < 256; ++byte) {
    if (!is_printable(byte)) bytes.push_back(static_cast<unsigned char>(byte));
  }
  return bytes;
}

}  // namespace weldlm
