// What the binding files of the tokenizer share: text and ids between Python and C++.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/merge_table.hpp"

namespace weldlm::bindings {

namespace py = pybind11;

using Ids = std::vector<std::uint32_t>;
using IdArray = py::array_t<std::uint32_t, py::array::c_style | py::array::forcecast>;

// Each defines the classes of one family in the module.
void bind_bpe(py::module_& module);
void bind_bert(py::module_& module);
void bind_image(py::module_& module);
void bind_patterns(py::module_& module);
void bind_sentencepiece(py::module_& module);

// The UTF-8 of Python strings, kept alive as long as this object.
class Utf8Texts {
 public:
  void reserve(std::size_t count);
  std::string_view add(py::handle text);
  std::span<const std::string_view> views() const noexcept { return views_; }

 private:
  std::vector<py::object> owners_;
  std::vector<std::string_view> views_;
};

Utf8Texts texts_of(const py::iterable& texts);

py::list list_of(const Ids& ids);
py::list list_of(const std::vector<std::string>& tokens);

// Shorter texts are encoded under the lock of the interpreter: giving it up costs more.
inline constexpr std::size_t min_unlocked_bytes = 4096;

// Functions without the dispatch of pybind11, which is a good part of a short call. Their arguments
// have places and no names; _tokenizer.pyi says which.
py::object encode_ordinary_call(const py::object& encoder);
py::object encode_refusing_call(const py::object& encoder);
py::object encode_call(const py::object& encoder);
py::object count_call(const py::object& encoder);
py::object decode_call(const py::object& decoder);
py::object decode_text_call(const py::object& decoder);

// Rows of left, right and merged id.
std::vector<Merge> merges_of(const IdArray& array);

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

// Ids that Python gave, as a list or an array of integers. An id beyond 64 bits is refused as one
// that is not in a vocabulary of this size.
std::vector<std::int64_t> ids_of(const py::object& ids, std::size_t vocab_size);
std::int64_t id_of(py::handle value, std::size_t vocab_size);

// What a trainer calls, without the lock of the interpreter: looks for signals and tells
// `progress`, which may be absent and must outlive the result.
std::function<void(std::size_t)> training_report(
    const std::optional<std::function<void(std::size_t)>>& progress);

}  // namespace weldlm::bindings
