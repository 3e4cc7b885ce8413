// BERT and its relatives: WordPiece with its trainer, and the normalizers that go with it.
#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include "bindings/tokenizer_bindings.hpp"
#include "tokenizer/bert.hpp"
#include "tokenizer/unicode_normalizer.hpp"
#include "tokenizer/wordpiece.hpp"
#include "tokenizer/wordpiece_trainer.hpp"

namespace weldlm::bindings {
namespace {

void feed(WordPieceTrainer& trainer, const py::iterable& texts, std::size_t num_threads) {
  const Utf8Texts utf8 = texts_of(texts);
  const py::gil_scoped_release unlocked;
  trainer.feed(utf8.views(), num_threads);
}

py::list train(WordPieceTrainer& trainer, std::int64_t vocab_size,
               std::vector<std::string> special_tokens, std::int64_t min_frequency,
               std::optional<std::size_t> limit_alphabet, std::u32string initial_alphabet,
               std::string continuing_prefix,
               const std::optional<std::function<void(std::size_t)>>& progress) {
  const WordPieceTrainingOptions options{
      vocab_size,     std::move(special_tokens),   min_frequency,
      limit_alphabet, std::move(initial_alphabet), std::move(continuing_prefix)};
  std::vector<std::string> tokens;
  {
    const py::gil_scoped_release unlocked;
    tokens = trainer.train(options, training_report(progress));
  }
  return list_of(tokens);
}

py::bytes normalized(const Normalizer& normalizer, const py::str& text) {
  Utf8Texts utf8;
  NormalizedText result;
  normalizer.normalize(NormalizedText(utf8.add(text), Origins::none), true, result);
  return py::bytes(result.text());
}

void bind_normalizers(py::module_& module) {
  py::class_<BertNormalizer, Normalizer, std::shared_ptr<BertNormalizer>>(module, "BertNormalizer")
      .def(py::init(
               [](bool clean_text, bool handle_chinese_chars, bool strip_accents, bool lowercase) {
                 return std::make_shared<BertNormalizer>(BertNormalizerOptions{
                     clean_text, handle_chinese_chars, strip_accents, lowercase});
               }),
           py::arg("clean_text"), py::arg("handle_chinese_chars"), py::arg("strip_accents"),
           py::arg("lowercase"));
  py::class_<UnicodeNormalizer, Normalizer, std::shared_ptr<UnicodeNormalizer>>(module,
                                                                                "UnicodeNormalizer")
      .def(py::init([](std::string_view form) {
             return std::make_shared<UnicodeNormalizer>(find_form(form));
           }),
           py::arg("form"));
  py::class_<Lowercase, Normalizer, std::shared_ptr<Lowercase>>(module, "Lowercase")
      .def(py::init<>());
  py::class_<StripAccents, Normalizer, std::shared_ptr<StripAccents>>(module, "StripAccents")
      .def(py::init<>());
  module.def("normalized", &normalized, py::arg("normalizer"), py::arg("text"));
}

}  // namespace

void bind_bert(py::module_& module) {
  bind_normalizers(module);
  py::class_<BertPretokenizer, Pretokenizer, std::shared_ptr<BertPretokenizer>>(module,
                                                                                "BertPretokenizer")
      .def(py::init<>());
  py::class_<WordPiece, Model, std::shared_ptr<WordPiece>>(module, "WordPiece")
      .def(py::init([](const Vocabulary& vocabulary, std::size_t num_tokens, std::uint32_t unk_id,
                       std::string continuing_prefix, std::size_t max_chars_per_word) {
             return std::make_shared<WordPiece>(
                 vocabulary, WordPieceOptions{num_tokens, unk_id, std::move(continuing_prefix),
                                              max_chars_per_word});
           }),
           py::arg("vocabulary"), py::arg("num_tokens"), py::arg("unk_id"),
           py::arg("continuing_prefix"), py::arg("max_chars_per_word"));
  py::class_<WordPieceTrainer>(module, "WordPieceTrainer")
      .def(py::init([](std::shared_ptr<Normalizer> normalizer,
                       std::shared_ptr<Pretokenizer> pretokenizer) {
             return std::make_unique<WordPieceTrainer>(std::move(normalizer),
                                                       std::move(pretokenizer));
           }),
           py::arg("normalizer").none(true), py::arg("pretokenizer").none(true))
      .def("feed", &feed, py::arg("texts"), py::arg("num_threads"))
      .def("train", &train, py::arg("vocab_size"), py::arg("special_tokens"),
           py::arg("min_frequency"), py::arg("limit_alphabet"), py::arg("initial_alphabet"),
           py::arg("continuing_prefix"), py::arg("progress"));
}

}  // namespace weldlm::bindings
