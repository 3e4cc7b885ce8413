// Byte-level BPE: its model, its patterns, its trainer.
#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include <optional>
#include <stdexcept>

#include "bindings/tokenizer_bindings.hpp"
#include "tokenizer/bpe.hpp"
#include "tokenizer/patterns.hpp"
#include "tokenizer/trainer.hpp"

namespace weldlm::bindings {
namespace {

IdArray array_of_merges(const std::vector<Merge>& merges) {
  IdArray array({static_cast<py::ssize_t>(merges.size()), py::ssize_t{3}});
  auto rows = array.mutable_unchecked<2>();
  for (py::ssize_t rank = 0; rank < rows.shape(0); ++rank) {
    const Merge& merge = merges[static_cast<std::size_t>(rank)];
    rows(rank, 0) = merge.left;
    rows(rank, 1) = merge.right;
    rows(rank, 2) = merge.result;
  }
  return array;
}

void feed(BpeTrainer& trainer, const py::iterable& texts, std::size_t num_threads) {
  const Utf8Texts utf8 = texts_of(texts);
  const py::gil_scoped_release unlocked;
  trainer.feed(utf8.views(), num_threads);
}

py::tuple train(BpeTrainer& trainer, std::int64_t vocab_size,
                std::vector<std::string> special_tokens, std::int64_t min_frequency,
                const std::optional<std::function<void(std::size_t)>>& progress) {
  weldlm::TrainedBpe trained;
  {
    const py::gil_scoped_release unlocked;
    trained = trainer.train({vocab_size, std::move(special_tokens), min_frequency},
                            training_report(progress));
  }
  return py::make_tuple(list_of(trained.tokens), array_of_merges(trained.merges));
}

py::list gpt2_pieces(const py::str& text) {
  Utf8Texts utf8;
  const std::string_view view = utf8.add(text);
  py::list pieces;
  for (std::size_t start = 0; start < view.size();) {
    const std::size_t end = weldlm::gpt2_piece_end(view, start);
    pieces.append(py::bytes(view.substr(start, end - start)));
    start = end;
  }
  return pieces;
}

}  // namespace

void bind_bpe(py::module_& module) {
  py::class_<ByteBpe, Model, std::shared_ptr<ByteBpe>>(module, "ByteBpe")
      .def(py::init([](const Vocabulary& vocabulary, const IdArray& merges) {
             return std::make_shared<ByteBpe>(vocabulary, merges_of(merges));
           }),
           py::arg("vocabulary"), py::arg("merges"))
      .def("merges", [](const ByteBpe& bpe) { return array_of_merges(bpe.merges()); });

  py::class_<PatternPretokenizer, Pretokenizer, std::shared_ptr<PatternPretokenizer>>(
      module, "PatternPretokenizer")
      .def(py::init([](std::string_view family) {
             return std::make_shared<PatternPretokenizer>(find_pattern(family));
           }),
           py::arg("family"));

  py::class_<BpeTrainer>(module, "BpeTrainer")
      .def(py::init<>())
      .def("feed", &feed, py::arg("texts"), py::arg("num_threads"))
      .def("train", &train, py::arg("vocab_size"), py::arg("special_tokens"),
           py::arg("min_frequency"), py::arg("progress"));

  module.def("gpt2_pieces", &gpt2_pieces, py::arg("text"));
  module.def("byte_alphabet", [] {
    const std::vector<unsigned char> bytes = byte_alphabet();
    return py::bytes(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  });
}

}  // namespace weldlm::bindings
