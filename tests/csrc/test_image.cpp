// Images: what is read from one encodes and decodes as what was written, and damage is told.
#include <cstdint>
#include <cstring>
#include <iterator>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "check.hpp"
#include "tokenizer/bpe.hpp"
#include "tokenizer/decoder.hpp"
#include "tokenizer/encoder.hpp"
#include "tokenizer/flat_array.hpp"

namespace weldlm::test {
namespace {

struct alignas(image_alignment) Block {
  char bytes[image_alignment];
};

// The bytes at an aligned place, in a buffer of exactly their blocks.
std::shared_ptr<const std::vector<Block>> aligned(const std::string& image) {
  std::vector<Block> blocks((image.size() + image_alignment - 1) / image_alignment);
  if (!image.empty()) std::memcpy(blocks.data(), image.data(), image.size());
  return std::make_shared<const std::vector<Block>>(std::move(blocks));
}

ImageReader reader_of(const std::string& image) {
  auto blocks = aligned(image);
  const auto* bytes = reinterpret_cast<const char*>(blocks->data());
  return ImageReader({bytes, image.size()}, std::move(blocks));
}

ByteBpe small_bpe(BpeOptions options) {
  const TrainedBpe trained = small_vocabulary();
  return ByteBpe(vocabulary_of(trained.tokens), trained.merges, options);
}

template <typename Part>
std::string image_of(const Part& part) {
  ImageWriter writer;
  part.write(writer);
  return writer.take();
}

void models_encode_as_those_that_were_written() {
  constexpr std::string_view alphabet[] = {"a", "b", "c", "d", "the", "aaaa", "\xFF", "ab"};
  for (const BpeOptions options : {BpeOptions{}, BpeOptions{.ignore_merges = true}}) {
    const ByteBpe written = small_bpe(options);
    ImageReader reader = reader_of(image_of(written));
    const ByteBpe read(reader);
    const auto workspace = read.make_workspace();
    std::mt19937 random(51);
    for (int round = 0; round < 2000; ++round) {
      const std::string piece = "a" + random_text(random, alphabet, 60);
      TokenSink expected;
      TokenSink found;
      written.encode(piece, written.make_workspace().get(), expected);
      read.encode(piece, workspace.get(), found);
      check(found.ids == expected.ids, piece);
    }
    check(image_of(read) == image_of(written), "an image of an image is the same");
  }
}

void vocabularies_find_as_those_that_were_written() {
  std::vector<std::string> tokens = small_vocabulary().tokens;
  tokens.insert(tokens.end(), {"", "a", "a long token of many bytes, more than thirty-two"});
  const Vocabulary written(tokens);
  ImageReader reader = reader_of(image_of(written));
  const Vocabulary read(reader);
  for (const std::string& token : tokens) {
    check(read.id(token) == written.id(token), "the same id");
    check(!read.id(token + "\xFF\xFF"), "and none for another");
  }
  check(!read.id("") && *read.id("a") == *written.id("a"), "the lower of two");
}

void decoders_decode_as_those_that_were_written() {
  const std::vector<std::string> tokens = {"a", " b", "", "c"};
  const std::vector<std::string> first = {"a", "b", "", "c"};
  const Decoder written(tokens, first, std::vector<std::uint32_t>{0}, true);
  ImageReader reader = reader_of(image_of(written));
  const Decoder read(reader);
  const std::vector<std::int64_t> ids = {0, 2, 1, 1, 3};
  check(read.decode(ids) == "b bc" && written.decode(ids) == "b bc", "the text");
}

void cut_images_are_refused() {
  const std::string image = image_of(small_bpe({}));
  for (std::size_t size = 0; size + image_alignment < image.size(); size += 41) {
    ImageReader reader = reader_of(image.substr(0, size));
    check(holds(refusal([&] { ByteBpe{reader}; }), "image"), "an image without its end");
  }
}

void counts_that_are_wrong_do_no_harm() {
  const std::string image = image_of(small_bpe({}));
  std::mt19937 random(52);
  for (int round = 0; round < 300; ++round) {
    std::string damaged = image;
    const std::size_t place = random() % (image.size() / image_alignment) * image_alignment;
    for (std::size_t i = 0; i < 8; ++i) damaged[place + i] = static_cast<char>(random());
    ImageReader reader = reader_of(damaged);
    static_cast<void>(refusal([&] { ByteBpe{reader}; }));
  }
}

// What a forged number would make of an index: a word of the image becomes another one.
std::string forged(const std::string& image, std::mt19937& random) {
  constexpr std::uint64_t numbers[] = {0, 1, 2, 3, 255, 260, 1u << 20, 0xFFFFFFFFu, ~std::uint64_t{0}};
  std::string changed = image;
  for (std::size_t count = 1 + random() % 3; count > 0; --count) {
    const std::size_t size = random() % 2 == 0 ? 4 : 8;
    const std::size_t place = random() % (image.size() / size) * size;
    const std::uint64_t number = numbers[random() % std::size(numbers)];
    std::memcpy(changed.data() + place, &number, size);
  }
  return changed;
}

void forged_models_do_no_harm() {
  std::mt19937 random(54);
  const std::string text = "the cab \xFF" + std::string(100, 'a') + "bab";
  std::size_t num_read = 0;
  for (const bool drops_bytes : {false, true}) {
    const std::string image = image_of(small_bpe({.drops_bytes = drops_bytes}));
    for (int round = 0; round < 3000; ++round) {
      ImageReader reader = reader_of(forged(image, random));
      static_cast<void>(refusal([&] {
        const auto model = std::make_shared<const ByteBpe>(reader);
        ++num_read;
        static_cast<void>(Encoder({{}, nullptr, nullptr, nullptr, model}).encode_located(text, {}));
      }));
    }
  }
  check(num_read > 100, "some are read");
}

void forged_texts_do_no_harm() {
  std::mt19937 random(55);
  const std::vector<std::string> tokens = small_vocabulary().tokens;
  const std::string images[] = {image_of(Vocabulary(tokens)),
                                image_of(Decoder(tokens, tokens, std::vector<std::uint32_t>{0}))};
  for (int round = 0; round < 3000; ++round) {
    ImageReader of_vocabulary = reader_of(forged(images[0], random));
    static_cast<void>(refusal([&] {
      const Vocabulary vocabulary(of_vocabulary);
      for (std::size_t id = 0; id < vocabulary.size(); ++id) {
        static_cast<void>(vocabulary.id(vocabulary.token(static_cast<std::int64_t>(id))));
      }
    }));
    ImageReader of_decoder = reader_of(forged(images[1], random));
    static_cast<void>(refusal([&] {
      const Decoder decoder(of_decoder);
      std::vector<std::int64_t> ids(decoder.size());
      std::iota(ids.begin(), ids.end(), 0);
      static_cast<void>(decoder.decode(ids));
    }));
  }
}

void offsets_that_do_not_ascend_are_refused() {
  const std::string image = image_of(Vocabulary({"ab", "cd", "ef"}));
  for (const std::uint64_t offset : {std::uint64_t{5}, ~std::uint64_t{0}}) {
    std::string changed = image;
    // behind the count and the bytes, and the count of the offsets and the first of them
    std::memcpy(changed.data() + 3 * image_alignment + 8, &offset, sizeof(offset));
    ImageReader reader = reader_of(changed);
    check(holds(refusal([&] { Vocabulary{reader}; }), "tokens of the image"), "refused");
  }
}

void checksum_tells_any_bit() {
  std::mt19937 random(53);
  for (const std::size_t size : {1u, 7u, 8u, 31u, 32u, 33u, 200u}) {
    std::string bytes(size, 'x');
    const std::uint64_t whole = image_checksum(bytes);
    check(image_checksum(bytes + '\0') != whole, "a byte more");
    check(image_checksum(bytes.substr(1)) != whole, "a byte less");
    for (std::size_t bit = 0; bit < size * 8; ++bit) {
      bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ 1 << bit % 8);
      check(image_checksum(bytes) != whole, "another bit");
      bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ 1 << bit % 8);
    }
  }
}

}  // namespace
}  // namespace weldlm::test

int main() {
  weldlm::test::models_encode_as_those_that_were_written();
  weldlm::test::vocabularies_find_as_those_that_were_written();
  weldlm::test::decoders_decode_as_those_that_were_written();
  weldlm::test::cut_images_are_refused();
  weldlm::test::counts_that_are_wrong_do_no_harm();
  weldlm::test::forged_models_do_no_harm();
  weldlm::test::forged_texts_do_no_harm();
  weldlm::test::offsets_that_do_not_ascend_are_refused();
  weldlm::test::checksum_tells_any_bit();
}
