// The little that the test programs share: a claim that ends the program, texts to try it on,
// and a small vocabulary.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <random>
#include <source_location>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/patterns.hpp"
#include "tokenizer/trainer.hpp"
#include "tokenizer/vocabulary.hpp"

namespace weldlm::test {

inline void check(bool claim, std::string_view what,
                  std::source_location where = std::source_location::current()) {
  if (claim) return;
  std::cerr << where.file_name() << ":" << where.line() << ": does not hold: " << what << "\n";
  std::exit(1);
}

// The message of the std::invalid_argument that `action` throws.
template <typename Action>
std::string refusal(const Action& action) {
  try {
    action();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "nothing was refused";
}

inline bool holds(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// A text of 0 to `most` parts of the alphabet.
inline std::string random_text(std::mt19937& random, std::span<const std::string_view> alphabet,
                               std::size_t most) {
  std::string text;
  for (std::size_t size = random() % (most + 1); size > 0; --size) {
    text += alphabet[random() % alphabet.size()];
  }
  return text;
}

// Letters, contractions, numbers, marks and white space of one to four bytes, and broken UTF-8.
inline constexpr std::string_view any_bytes[] = {"a",
                                                 "b",
                                                 "s",
                                                 "ll",
                                                 "re",
                                                 "'",
                                                 "'s",
                                                 "'ve",
                                                 " ",
                                                 "  ",
                                                 "\n",
                                                 "\t",
                                                 "0",
                                                 "42",
                                                 "!",
                                                 "=",
                                                 "<",
                                                 "\xC3\xA9",
                                                 "\xC2\xA0",
                                                 "\xE2\x80\x83",
                                                 "\xE4\xB8\xAD",
                                                 "\xD9\xA3",
                                                 "\xF0\x9F\x98\x80",
                                                 "\xF0\x90\x90\x80",
                                                 "\xCC\x81",
                                                 "\x80",
                                                 "\xC3",
                                                 "\xE4\xB8",
                                                 "\xF0\x9F\x98",
                                                 "A",
                                                 "'LL",
                                                 "'\xC5\xBF",
                                                 "\xC7\x85",
                                                 "\xCA\xB0",
                                                 "\r\n",
                                                 "/",
                                                 "\xF0\x91\xB7\xA0",
                                                 "\xFF",
                                                 std::string_view("\0", 1)};

inline std::shared_ptr<const Vocabulary> vocabulary_of(const std::vector<std::string>& tokens) {
  return std::make_shared<const Vocabulary>(tokens);
}

inline TrainedBpe train(std::span<const std::string_view> texts, std::int64_t vocab_size,
                        std::size_t num_threads = 1) {
  BpeTrainer trainer(std::make_shared<PatternPretokenizer>(gpt2_piece_end));
  trainer.feed(texts, num_threads);
  return trainer.train({vocab_size, {"<|endoftext|>"}, 1}, [](std::size_t) {});
}

// A vocabulary in which runs of a and b merge in several ways.
inline TrainedBpe small_vocabulary() {
  const std::vector<std::string_view> texts = {"aaaaaaaa abab abba aaab baaa abcabc",
                                               "the theme of the thesis there", "a ab abc bc abcd"};
  return train(texts, 285);
}

}  // namespace weldlm::test
