// The calls that are made on short texts, as plain functions of CPython that are bound to their
// object: the dispatch of pybind11 takes as long as the work.
#include <pybind11/pybind11.h>

#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings/tokenizer_bindings.hpp"
#include "tokenizer/decoder.hpp"
#include "tokenizer/encoder.hpp"

namespace weldlm::bindings {
namespace {

// What a function is bound to: an object, and the Python object that keeps it.
template <typename Self>
struct Bound {
  const Self& self;
  py::object owner;
};

template <typename Self>
const Self& self_of(PyObject* capsule) {
  return static_cast<const Bound<Self>*>(PyCapsule_GetPointer(capsule, nullptr))->self;
}

template <typename Self>
py::object bind(const py::object& owner, PyMethodDef& method) {
  auto bound = std::make_unique<Bound<Self>>(Bound<Self>{owner.cast<const Self&>(), owner});
  const py::capsule capsule(bound.get(), [](void* pointer) {
    std::unique_ptr<Bound<Self>>(static_cast<Bound<Self>*>(pointer)).reset();
  });
  static_cast<void>(bound.release());
  return py::reinterpret_steal<py::object>(PyCFunction_NewEx(&method, capsule.ptr(), nullptr));
}

// What `work` gives, or null and the exception of Python that stands for what it threw.
template <typename Work>
PyObject* guarded(const Work& work) noexcept {
  try {
    return work();
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const std::invalid_argument& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

using EncodeText = Ids (Encoder::*)(std::string_view) const;

template <EncodeText encode>
Ids ids_of_text(PyObject* capsule, PyObject* text) {
  const Encoder& encoder = self_of<Encoder>(capsule);
  if (PyUnicode_Check(text) && PyUnicode_IS_COMPACT_ASCII(text) &&
      PyUnicode_GET_LENGTH(text) < static_cast<Py_ssize_t>(min_unlocked_bytes)) {
    return (encoder.*encode)({static_cast<const char*>(PyUnicode_DATA(text)),
                              static_cast<std::size_t>(PyUnicode_GET_LENGTH(text))});
  }
  Utf8Texts utf8;
  const std::string_view view = utf8.add(text);
  std::optional<py::gil_scoped_release> unlocked;
  if (view.size() >= min_unlocked_bytes) unlocked.emplace();
  return (encoder.*encode)(view);
}

PyObject* encode_ordinary(PyObject* capsule, PyObject* text) {
  return guarded([&] {
    return list_of(ids_of_text<&Encoder::encode_ordinary>(capsule, text)).release().ptr();
  });
}

PyObject* encode_refusing(PyObject* capsule, PyObject* text) {
  return guarded([&] {
    return list_of(ids_of_text<&Encoder::encode_refusing>(capsule, text)).release().ptr();
  });
}

PyObject* count(PyObject* capsule, PyObject* text) {
  return guarded([&] {
    return PyLong_FromSize_t(ids_of_text<&Encoder::encode_ordinary>(capsule, text).size());
  });
}

PyObject* decode(PyObject* capsule, PyObject* ids) {
  return guarded([&] {
    const Decoder& decoder = self_of<Decoder>(capsule);
    const auto given = py::reinterpret_borrow<py::object>(ids);
    const std::string bytes = decoder.decode(ids_of(given, decoder.size()));
    return PyBytes_FromStringAndSize(bytes.data(), static_cast<Py_ssize_t>(bytes.size()));
  });
}

PyMethodDef encode_ordinary_method = {"encode_ordinary", &encode_ordinary, METH_O, nullptr};
PyMethodDef encode_refusing_method = {"encode_refusing", &encode_refusing, METH_O, nullptr};
PyMethodDef count_method = {"count", &count, METH_O, nullptr};
PyMethodDef decode_method = {"decode", &decode, METH_O, nullptr};

}  // namespace

py::object encode_ordinary_call(const py::object& encoder) {
  return bind<Encoder>(encoder, encode_ordinary_method);
}

py::object encode_refusing_call(const py::object& encoder) {
  return bind<Encoder>(encoder, encode_refusing_method);
}

py::object count_call(const py::object& encoder) { return bind<Encoder>(encoder, count_method); }

py::object decode_call(const py::object& decoder) { return bind<Decoder>(decoder, decode_method); }

}  // namespace weldlm::bindings
