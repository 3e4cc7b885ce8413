// Byte-level BPE: its model and its trainer.
#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include <optional>
#include <stdexcept>

#include "bindings/tokenizer_bindings.hpp"
#include "tokenizer/bpe.hpp"
#include "tokenizer/trainer.hpp"

namespace weldlm::bindings {
namespace {

IdArray array_of_merges(std::span<const Merge> merges) {
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

std::shared_ptr<ByteBpe> bpe_of_ranks(const std::shared_ptr<Vocabulary>& vocabulary) {
  const py::gil_scoped_release unlocked;
  return std::make_shared<ByteBpe>(vocabulary, merges_of_ranks(*vocabulary),
                                   BpeOptions{.ignore_merges = true, .shares_ranks = true});
}

}  // namespace

void bind_bpe(py::module_& module) {
  py::class_<ByteBpe, Model, std::shared_ptr<ByteBpe>>(module, "ByteBpe")
      .def(py::init([](const std::shared_ptr<Vocabulary>& vocabulary, const IdArray& merges,
                       bool ignore_merges, bool drops_bytes) {
             const BpeOptions options{.ignore_merges = ignore_merges, .drops_bytes = drops_bytes};
             return std::make_shared<ByteBpe>(vocabulary, merges_of(merges), options);
           }),
           py::arg("vocabulary"), py::arg("merges"), py::arg("ignore_merges"),
           py::arg("drops_bytes"))
      .def_static("of_ranks", &bpe_of_ranks, py::arg("vocabulary"))
      .def("merges", [](const ByteBpe& bpe) { return array_of_merges(bpe.merges()); });

  py::class_<BpeTrainer>(module, "BpeTrainer")
      .def(py::init([](const std::shared_ptr<Pretokenizer>& pretokenizer) {
             return std::make_unique<BpeTrainer>(pretokenizer);
           }),
           py::arg("pretokenizer"))
      .def("feed", &feed, py::arg("texts"), py::arg("num_threads"))
      .def("train", &train, py::arg("vocab_size"), py::arg("special_tokens"),
           py::arg("min_frequency"), py::arg("progress"));

  module.def("byte_alphabet", [] {
    const std::vector<unsigned char> bytes = byte_alphabet();
    return py::bytes(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  });
}

}  // namespace weldlm::bindings
