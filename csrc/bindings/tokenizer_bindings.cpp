#include "bindings/tokenizer_bindings.hpp"

#include <limits>
#include <optional>
#include <stdexcept>

namespace weldlm::bindings {
namespace {

using WideIdArray = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>;

py::object owned(PyObject* object) {
  if (object == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(object);
}

// Surrogates become what UTF-16 makes of them: pairs a character, lone ones U+FFFD.
py::object utf8_bytes(py::handle text) {
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

// The value of a plain int of 64 bits, for which no code of the object runs.
std::optional<std::int64_t> plain_id(PyObject* value) noexcept {
  if (!PyLong_CheckExact(value)) return std::nullopt;
  int overflow = 0;
  const long long id = PyLong_AsLongLongAndOverflow(value, &overflow);
  if (overflow != 0) return std::nullopt;
  return id;
}

// A value in a message, shortened; Python does not spell out every one.
std::string shown(py::handle value) {
  constexpr std::size_t most = 40;
  const auto text = py::reinterpret_steal<py::object>(PyObject_Repr(value.ptr()));
  if (!text) {
    PyErr_Clear();
    return "(not shown)";
  }
  const std::string bytes(py::bytes(utf8_bytes(text)));
  if (bytes.find('\n') != std::string::npos) return "(not shown)";
  if (bytes.size() <= most) return bytes;
  std::size_t end = most;
  while (end > 0 && (static_cast<unsigned char>(bytes[end]) & 0xC0) == 0x80) --end;
  return bytes.substr(0, end) + "...";
}

[[noreturn]] void refuse_id(const std::string& id, std::size_t vocab_size) {
  throw std::invalid_argument("id " + id + " is not in the vocabulary: expected 0 to " +
                              std::to_string(vocab_size - 1) +
                              " (vocab_size=" + std::to_string(vocab_size) + ")");
}

// Ids that would be negative as signed ones.
void refuse_large(const py::array& array, std::size_t vocab_size) {
  using UnsignedArray = py::array_t<std::uint64_t, py::array::c_style | py::array::forcecast>;
  constexpr auto most = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  const auto ids = UnsignedArray(array);
  for (py::ssize_t i = 0; i < ids.size(); ++i) {
    if (ids.data()[i] > most) refuse_id(std::to_string(ids.data()[i]), vocab_size);
  }
}

}  // namespace

void Utf8Texts::reserve(std::size_t count) {
  owners_.reserve(count);
  views_.reserve(count);
}

std::string_view Utf8Texts::add(py::handle text) {
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

Utf8Texts texts_of(const py::iterable& texts) {
  // a tuple of our own: another thread may change the list while the lock is given up
  const py::tuple fixed(texts);
  Utf8Texts utf8;
  utf8.reserve(fixed.size());
  for (const py::handle text : fixed) utf8.add(text);
  return utf8;
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

std::int64_t id_of(py::handle value, std::size_t vocab_size) {
  if (const auto id = plain_id(value.ptr())) return *id;
  if (PyIndex_Check(value.ptr()) == 0) {
    throw py::type_error("id " + shown(value) + " is a " + Py_TYPE(value.ptr())->tp_name +
                         ", expected an integer");
  }
  const auto index = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
  if (!index) throw py::error_already_set();
  int overflow = 0;
  const long long id = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
  if (overflow != 0) refuse_id(shown(index), vocab_size);
  return id;
}

std::vector<std::int64_t> ids_of(const py::object& ids, std::size_t vocab_size) {
  std::vector<std::int64_t> values;
  if (PyList_CheckExact(ids.ptr()) || PyTuple_CheckExact(ids.ptr())) {
    // the list may change where an element has code of its own
    values.reserve(static_cast<std::size_t>(PySequence_Fast_GET_SIZE(ids.ptr())));
    for (py::ssize_t i = 0; i < PySequence_Fast_GET_SIZE(ids.ptr()); ++i) {
      PyObject* item = PySequence_Fast_GET_ITEM(ids.ptr(), i);
      if (const auto id = plain_id(item)) {
        values.push_back(*id);
      } else {
        values.push_back(id_of(py::reinterpret_borrow<py::object>(item), vocab_size));
      }
    }
    return values;
  }
  if (py::isinstance<py::array>(ids)) {
    const auto array = py::reinterpret_borrow<py::array>(ids);
    const char kind = array.dtype().kind();
    if (array.ndim() != 1 || (kind != 'i' && kind != 'u' && array.size() != 0)) {
      throw py::type_error("ids is an array of " + std::to_string(array.ndim()) +
                           " dimensions and dtype " + std::string(py::str(array.dtype())) +
                           ", expected one dimension of integers");
    }
    if (kind == 'u' && array.itemsize() == 8) refuse_large(array, vocab_size);
    const auto wide = WideIdArray(array);
    values.assign(wide.data(), wide.data() + wide.size());
    return values;
  }
  if (Py_TYPE(ids.ptr())->tp_iter == nullptr && PySequence_Check(ids.ptr()) == 0) {
    throw py::type_error("ids is " + shown(ids) + " of type " + Py_TYPE(ids.ptr())->tp_name +
                         ", expected an iterable of integers: pass [id]");
  }
  for (const py::handle id : ids) values.push_back(id_of(id, vocab_size));
  return values;
}

std::function<void(std::size_t)> training_report(
    const std::optional<std::function<void(std::size_t)>>& progress) {
  return [&progress](std::size_t num_tokens) {
    const py::gil_scoped_acquire locked;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    if (progress) (*progress)(num_tokens);
  };
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

}  // namespace weldlm::bindings
