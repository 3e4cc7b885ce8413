// weldlm._tokenizer: the C++ tokenizer for Python. The surface is listed in _tokenizer.pyi.
#include "tokenizer/tokenizer.hpp"

#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "tokenizer/patterns.hpp"
#include "tokenizer/trainer.hpp"

namespace py = pybind11;

namespace {

using weldlm::AddedToken;
using weldlm::BpeTrainer;
using weldlm::ByteLevelBpe;
using weldlm::Merge;
using weldlm::SpecialTokenPolicy;

using Ids = std::vector<std::uint32_t>;
using IdArray = py::array_t<std::uint32_t, py::array::c_style | py::array::forcecast>;
using WideIdArray = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>;

// Shorter texts are encoded under the lock of the interpreter: giving it up costs more.
constexpr std::size_t min_unlocked_bytes = 4096;

// The UTF-8 of Python strings, kept alive as long as this object.
class Utf8Texts {
 public:
  void reserve(std::size_t count) {
    owners_.reserve(count);
    views_.reserve(count);
  }

  std::string_view add(py::handle text) {
    if (!PyUnicode_Check(text.ptr())) {
      throw py::type_error("text " + std::to_string(views_.size()) + " is a " +
                           std::string(Py_TYPE(text.ptr())->tp_name) + ", expected str");
    }
    if (PyUnicode_IS_COMPACT_ASCII(text.ptr())) {
      owners_.push_back(py::reinterpret_borrow<py::object>(text));
      views_.emplace_back(static_cast<const char*>(PyUnicode_DATA(text.ptr())),
                          static_cast<std::size_t>(PyUnicode_GET_LENGTH(text.ptr())));
      return views_.back();
    }
    owners_.push_back(utf8_bytes(text));
    views_.emplace_back(PyBytes_AS_STRING(owners_.back().ptr()),
                        static_cast<std::size_t>(PyBytes_GET_SIZE(owners_.back().ptr())));
    return views_.back();
  }

  std::span<const std::string_view> views() const noexcept { return views_; }

 private:
  static py::object owned(PyObject* object) {
    if (object == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(object);
  }

  // Surrogates become what UTF-16 makes of them: pairs a character, lone ones U+FFFD.
  static py::object utf8_bytes(py::handle text) {
    PyObject* bytes = PyUnicode_AsUTF8String(text.ptr());
    if (bytes == nullptr && PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
      PyErr_Clear();
      const py::object units =
          owned(PyUnicode_AsEncodedString(text.ptr(), "utf-16-le", "surrogatepass"));
      const py::object repaired =
          owned(PyUnicode_FromEncodedObject(units.ptr(), "utf-16-le", "replace"));
      bytes = PyUnicode_AsUTF8String(repaired.ptr());
    }
    return owned(bytes);
  }

  std::vector<py::object> owners_;
  std::vector<std::string_view> views_;
};

Utf8Texts texts_of(const py::iterable& texts) {
  // a tuple of our own: another thread may change the list while the lock is given up
  const py::tuple fixed(texts);
  Utf8Texts utf8;
  utf8.reserve(fixed.size());
  for (const py::handle text : fixed) utf8.add(text);
  return utf8;
}

// An array that owns the vector, without a copy.
template <typename Value>
py::array_t<Value> array_of(std::vector<Value> values) {
  auto owner = std::make_unique<std::vector<Value>>(std::move(values));
  const auto size = static_cast<py::ssize_t>(owner->size());
  const Value* data = owner->data();
  const py::capsule capsule(owner.get(), [](void* vector) {
    std::unique_ptr<std::vector<Value>>(static_cast<std::vector<Value>*>(vector)).reset();
  });
  static_cast<void>(owner.release());
  return py::array_t<Value>(size, data, capsule);
}

py::list list_of(const Ids& ids) {
  py::list list(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    PyObject* id = PyLong_FromUnsignedLong(ids[i]);
    if (id == nullptr) throw py::error_already_set();
    PyList_SET_ITEM(list.ptr(), static_cast<py::ssize_t>(i), id);
  }
  return list;
}

py::list list_of(const std::vector<std::string>& tokens) {
  py::list list;
  for (const std::string& token : tokens) list.append(py::bytes(token));
  return list;
}

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

std::vector<Merge> merges_of(const IdArray& array) {
  if (array.ndim() != 2 || array.shape(1) != 3) {
    throw std::invalid_argument("merges must be an array of shape [merges, 3]");
  }
  const auto rows = array.unchecked<2>();
  std::vector<Merge> merges;
  merges.reserve(static_cast<std::size_t>(rows.shape(0)));
  for (py::ssize_t rank = 0; rank < rows.shape(0); ++rank) {
    merges.push_back({rows(rank, 0), rows(rank, 1), rows(rank, 2)});
  }
  return merges;
}

std::int64_t id_of(const ByteLevelBpe& bpe, py::handle value) {
  const auto index = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
  if (!index) throw py::error_already_set();
  int overflow = 0;
  const long long id = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
  if (overflow != 0) {
    throw std::invalid_argument("id " + std::string(py::str(index)) +
                                " is not in the vocabulary: expected 0 to " +
                                std::to_string(bpe.vocabulary().size() - 1) +
                                " (vocab_size=" + std::to_string(bpe.vocabulary().size()) + ")");
  }
  return id;
}

std::vector<std::int64_t> ids_of(const ByteLevelBpe& bpe, const py::object& ids) {
  std::vector<std::int64_t> values;
  if (py::isinstance<py::array>(ids)) {
    const auto array = py::reinterpret_borrow<py::array>(ids);
    const char kind = array.dtype().kind();
    if (array.ndim() != 1 || (kind != 'i' && kind != 'u' && array.size() != 0)) {
      throw py::type_error("ids is an array of " + std::to_string(array.ndim()) +
                           " dimensions and dtype " + std::string(py::str(array.dtype())) +
                           ", expected one dimension of integers");
    }
    const auto wide = WideIdArray(array);
    values.assign(wide.data(), wide.data() + wide.size());
    return values;
  }
  for (const py::handle id : ids) values.push_back(id_of(bpe, id));
  return values;
}

std::vector<AddedToken> added_tokens_of(
    const std::vector<std::tuple<std::string, std::uint32_t, bool, bool>>& rows) {
  std::vector<AddedToken> tokens;
  for (const auto& [content, id, is_special, is_normalized] : rows) {
    tokens.push_back({content, id, is_special, is_normalized});
  }
  return tokens;
}

py::list encode(const ByteLevelBpe& bpe, const py::str& text, Ids allowed_ids, Ids disallowed_ids) {
  const SpecialTokenPolicy policy{std::move(allowed_ids), std::move(disallowed_ids)};
  Utf8Texts utf8;
  const std::string_view view = utf8.add(text);
  Ids ids;
  {
    std::optional<py::gil_scoped_release> unlocked;
    if (view.size() >= min_unlocked_bytes) unlocked.emplace();
    ids = bpe.encode(view, policy);
  }
  return list_of(ids);
}

py::tuple encode_batch(const ByteLevelBpe& bpe, const py::iterable& texts, std::size_t num_threads,
                       Ids allowed_ids, Ids disallowed_ids) {
  const SpecialTokenPolicy policy{std::move(allowed_ids), std::move(disallowed_ids)};
  const Utf8Texts utf8 = texts_of(texts);
  weldlm::RaggedIds ragged;
  {
    const py::gil_scoped_release unlocked;
    ragged = bpe.encode_batch(utf8.views(), num_threads, policy);
  }
  return py::make_tuple(array_of(std::move(ragged.ids)), array_of(std::move(ragged.offsets)));
}

void feed(BpeTrainer& trainer, const py::iterable& texts, std::size_t num_threads) {
  const Utf8Texts utf8 = texts_of(texts);
  const py::gil_scoped_release unlocked;
  trainer.feed(utf8.views(), num_threads);
}

py::tuple train(BpeTrainer& trainer, std::int64_t vocab_size,
                std::vector<std::string> special_tokens, std::int64_t min_frequency,
                const std::optional<std::function<void(std::size_t)>>& progress) {
  const auto report = [&](std::size_t num_tokens) {
    const py::gil_scoped_acquire locked;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    if (progress) (*progress)(num_tokens);
  };
  weldlm::TrainedBpe trained;
  {
    const py::gil_scoped_release unlocked;
    trained = trainer.train({vocab_size, std::move(special_tokens), min_frequency}, report);
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

py::list tokens(const ByteLevelBpe& bpe) {
  py::list list;
  const auto size = static_cast<std::int64_t>(bpe.vocabulary().size());
  for (std::int64_t id = 0; id < size; ++id) list.append(py::bytes(bpe.vocabulary().token(id)));
  return list;
}

}  // namespace

PYBIND11_MODULE(_tokenizer, module) {
  py::class_<ByteLevelBpe>(module, "ByteLevelBpe")
      .def(py::init([](const std::vector<std::string>& tokens, const IdArray& merges,
                       const std::vector<std::tuple<std::string, std::uint32_t, bool, bool>>&
                           added_tokens) {
             return std::make_unique<ByteLevelBpe>(tokens, merges_of(merges),
                                                   added_tokens_of(added_tokens));
           }),
           py::arg("tokens"), py::arg("merges"), py::arg("added_tokens"))
      .def_property_readonly("vocab_size",
                             [](const ByteLevelBpe& bpe) { return bpe.vocabulary().size(); })
      .def("tokens", &tokens)
      .def("merges", [](const ByteLevelBpe& bpe) { return array_of_merges(bpe.merges()); })
      .def(
          "token_to_id",
          [](const ByteLevelBpe& bpe, const py::bytes& token) {
            return bpe.vocabulary().id(std::string_view(token));
          },
          py::arg("token"))
      .def(
          "id_to_token",
          [](const ByteLevelBpe& bpe, const py::object& id) {
            return py::bytes(bpe.vocabulary().token(id_of(bpe, id)));
          },
          py::arg("id"))
      .def("encode", &encode, py::arg("text"), py::arg("allowed_ids"), py::arg("disallowed_ids"))
      .def("encode_batch", &encode_batch, py::arg("texts"), py::arg("num_threads"),
           py::arg("allowed_ids"), py::arg("disallowed_ids"))
      .def(
          "decode_bytes",
          [](const ByteLevelBpe& bpe, const py::object& ids) {
            return py::bytes(bpe.vocabulary().decode(ids_of(bpe, ids)));
          },
          py::arg("ids"))
      .def("clear_cache", &ByteLevelBpe::clear_cache);

  py::class_<BpeTrainer>(module, "BpeTrainer")
      .def(py::init<>())
      .def("feed", &feed, py::arg("texts"), py::arg("num_threads"))
      .def("train", &train, py::arg("vocab_size"), py::arg("special_tokens"),
           py::arg("min_frequency"), py::arg("progress"));

  module.def("gpt2_pieces", &gpt2_pieces, py::arg("text"));
  module.def("byte_alphabet", [] {
    const std::vector<unsigned char> bytes = weldlm::byte_alphabet();
    return py::bytes(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  });
}
