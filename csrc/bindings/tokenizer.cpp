// weldlm._tokenizer: the encoder, the decoder and the vocabulary; the families bind their own.
#include <pybind11/stl.h>

#include <array>
#include <chrono>
#include <optional>
#include <stdexcept>
#include <tuple>

#include "bindings/tokenizer_bindings.hpp"
#include "tokenizer/decoder.hpp"
#include "tokenizer/encoder.hpp"
#include "tokenizer/vocabulary.hpp"

namespace {

using namespace weldlm;
using namespace weldlm::bindings;

// content, id and the flags in the order of AddedToken
using AddedTokenRows = std::vector<std::tuple<std::string, std::uint32_t, std::array<bool, 5>>>;
using NormalizerSteps = std::vector<std::shared_ptr<Normalizer>>;

std::shared_ptr<const Normalizer> sequence_of(const NormalizerSteps& steps) {
  if (steps.empty()) return nullptr;
  if (steps.size() == 1) return steps.front();
  return std::make_shared<NormalizerSequence>(
      std::vector<std::shared_ptr<const Normalizer>>(steps.begin(), steps.end()));
}

std::vector<AddedToken> added_tokens_of(const AddedTokenRows& rows) {
  std::vector<AddedToken> tokens;
  for (const auto& [content, id, flags] : rows) {
    tokens.push_back({content, id, flags[0], flags[1], flags[2], flags[3], flags[4]});
  }
  return tokens;
}

// Runs `encode` on a text, with the lock of the interpreter given up for a long one.
template <typename Encode>
auto encode_text(const py::str& text, Encode encode) {
  Utf8Texts utf8;
  const std::string_view view = utf8.add(text);
  std::optional<py::gil_scoped_release> unlocked;
  if (view.size() >= min_unlocked_bytes) unlocked.emplace();
  return encode(view);
}

py::list encode_segments(const Encoder& encoder, const py::iterable& texts,
                         const std::vector<bool>& are_trusted) {
  const Utf8Texts utf8 = texts_of(texts);
  if (are_trusted.size() != utf8.views().size()) {
    throw std::invalid_argument("every segment needs a text and whether it is trusted");
  }
  std::vector<TextSegment> segments;
  for (std::size_t i = 0; i < are_trusted.size(); ++i) {
    segments.push_back({utf8.views()[i], are_trusted[i]});
  }
  std::vector<std::uint32_t> ids;
  {
    const py::gil_scoped_release unlocked;
    ids = encoder.encode_segments(segments);
  }
  return list_of(ids);
}

py::tuple encode_located(const Encoder& encoder, const py::str& text, Ids allowed_ids,
                         Ids disallowed_ids) {
  const SpecialTokenPolicy policy{std::move(allowed_ids), std::move(disallowed_ids)};
  const LocatedIds located = encode_text(
      text, [&](std::string_view view) { return encoder.encode_located(view, policy); });
  py::array_t<std::int64_t> ranges(
      {static_cast<py::ssize_t>(located.ranges.size()), py::ssize_t{2}});
  auto rows = ranges.mutable_unchecked<2>();
  for (py::ssize_t i = 0; i < rows.shape(0); ++i) {
    const ByteRange& range = located.ranges[static_cast<std::size_t>(i)];
    rows(i, 0) = static_cast<std::int64_t>(range.begin);
    rows(i, 1) = static_cast<std::int64_t>(range.end);
  }
  return py::make_tuple(list_of(located.ids), ranges);
}

// Between groups of texts: takes the lock of the interpreter, ten times a second, to see signals.
class SignalCheck {
 public:
  void operator()() {
    const auto now = std::chrono::steady_clock::now();
    if (now - last_ < std::chrono::milliseconds(100)) return;
    last_ = now;
    const py::gil_scoped_acquire locked;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

template <typename Id>
py::tuple encode_batch_as(const Encoder& encoder, const Utf8Texts& utf8, std::size_t num_threads,
                          const SpecialTokenPolicy& policy, const Surroundings& surroundings) {
  RaggedIds<Id> ragged;
  {
    const py::gil_scoped_release unlocked;
    ragged =
        encoder.encode_batch<Id>(utf8.views(), num_threads, policy, surroundings, SignalCheck());
  }
  return py::make_tuple(array_of(std::move(ragged.ids)), array_of(std::move(ragged.offsets)));
}

py::tuple encode_batch(const Encoder& encoder, const py::iterable& texts, std::size_t num_threads,
                       Ids allowed_ids, Ids disallowed_ids, Ids before, Ids after, bool is_narrow) {
  const SpecialTokenPolicy policy{std::move(allowed_ids), std::move(disallowed_ids)};
  const Surroundings surroundings{std::move(before), std::move(after)};
  const Utf8Texts utf8 = texts_of(texts);
  const auto encode = is_narrow ? encode_batch_as<std::uint16_t> : encode_batch_as<std::uint32_t>;
  return encode(encoder, utf8, num_threads, policy, surroundings);
}

py::list tokens(const Vocabulary& vocabulary) {
  py::list list;
  const auto size = static_cast<std::int64_t>(vocabulary.size());
  for (std::int64_t id = 0; id < size; ++id) list.append(py::bytes(vocabulary.token(id)));
  return list;
}

void bind_vocabulary(py::module_& module) {
  py::class_<Vocabulary, std::shared_ptr<Vocabulary>>(module, "Vocabulary")
      .def(py::init<const std::vector<std::string>&>(), py::arg("tokens"))
      .def("__len__", &Vocabulary::size)
      .def("tokens", &tokens)
      .def(
          "id",
          [](const Vocabulary& vocabulary, const py::bytes& token) {
            return vocabulary.id(std::string_view(token));
          },
          py::arg("token"))
      .def(
          "token",
          [](const Vocabulary& vocabulary, const py::object& id) {
            return py::bytes(vocabulary.token(id_of(id, vocabulary.size())));
          },
          py::arg("id"));
}

void bind_encoder(py::module_& module) {
  py::class_<Model, std::shared_ptr<Model>>(module, "Model");
  py::class_<Normalizer, std::shared_ptr<Normalizer>>(module, "Normalizer")
      .def(
          "normalize",
          [](const Normalizer& normalizer, const py::str& text) {
            Utf8Texts utf8;
            return py::str(normalized_text(&normalizer, utf8.add(text)));
          },
          py::arg("text"));
  py::class_<Pretokenizer, std::shared_ptr<Pretokenizer>>(module, "Pretokenizer");
  py::class_<Encoder>(module, "Encoder")
      .def(py::init([](std::shared_ptr<Model> model, const NormalizerSteps& normalizers,
                       const NormalizerSteps& rewriters, std::shared_ptr<Pretokenizer> pretokenizer,
                       const AddedTokenRows& added_tokens) {
             return std::make_unique<Encoder>(
                 EncoderParts{added_tokens_of(added_tokens), sequence_of(normalizers),
                              sequence_of(rewriters), std::move(pretokenizer), std::move(model)});
           }),
           py::arg("model"), py::arg("normalizers"), py::arg("rewriters"), py::arg("pretokenizer"),
           py::arg("added_tokens"))
      .def("encode_segments", &encode_segments, py::arg("texts"), py::arg("are_trusted"))
      .def("encode_located", &encode_located, py::arg("text"), py::arg("allowed_ids"),
           py::arg("disallowed_ids"))
      .def("encode_batch", &encode_batch, py::arg("texts"), py::arg("num_threads"),
           py::arg("allowed_ids"), py::arg("disallowed_ids"), py::arg("before"), py::arg("after"),
           py::arg("is_narrow"))
      .def_property_readonly("encode", &encode_call)
      .def_property_readonly("encode_ordinary", &encode_ordinary_call)
      .def_property_readonly("encode_refusing", &encode_refusing_call)
      .def_property_readonly("count", &count_call)
      .def("clear_cache", &Encoder::clear_cache);
}

void bind_decoder(py::module_& module) {
  py::class_<Decoder>(module, "Decoder")
      .def(py::init([](const std::vector<std::string>& texts,
                       const std::vector<std::string>& first_texts, const Ids& silent_ids,
                       bool first_until_text) {
             return std::make_unique<Decoder>(texts, first_texts, silent_ids, first_until_text);
           }),
           py::arg("texts"), py::arg("first_texts"), py::arg("silent_ids"),
           py::arg("first_until_text") = false)
      .def(
          "text",
          [](const Decoder& decoder, const py::object& id, bool is_first) {
            return py::bytes(decoder.text(id_of(id, decoder.size()), is_first));
          },
          py::arg("id"), py::arg("is_first"))
      .def(
          "is_silent",
          [](const Decoder& decoder, std::int64_t id) { return decoder.is_silent(id); },
          py::arg("id"))
      .def_property_readonly("decode", &decode_call)
      .def_property_readonly("decode_text", &decode_text_call);
}

}  // namespace

PYBIND11_MODULE(_tokenizer, module) {
  bind_vocabulary(module);
  bind_encoder(module);
  bind_decoder(module);
  bind_patterns(module);
  bind_bpe(module);
  bind_bert(module);
  bind_sentencepiece(module);
  bind_image(module);
}
