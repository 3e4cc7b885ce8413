// The calls that are made on short texts, as plain functions of CPython that are bound to their
// object and take their arguments as they lie on its stack (METH_FASTCALL): the dispatch of
// pybind11 takes as long as the work.
#include <pybind11/pybind11.h>

#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <span>
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

using Arguments = std::span<PyObject* const>;
using FastCall = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t);

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

// A function of Python: its name, how many arguments it takes, what they are, and what it does.
struct Signature {
  const char* name;
  std::size_t least;
  std::size_t most;
  const char* arguments;
};

[[noreturn]] void refuse_arguments(const Signature& signature, std::size_t given) {
  std::string expected = std::to_string(signature.least);
  if (signature.least != signature.most) expected += " to " + std::to_string(signature.most);
  throw py::type_error(std::string(signature.name) + " got " + std::to_string(given) +
                       (given == 1 ? " argument" : " arguments") + ", expected " + expected + ": " +
                       signature.arguments);
}

template <const Signature& signature, typename Self,
          PyObject* (*work)(const Self&, Arguments arguments)>
PyObject* call(PyObject* capsule, PyObject* const* arguments, Py_ssize_t given) noexcept {
  return guarded([&] {
    const Arguments values(arguments, static_cast<std::size_t>(given));
    if (values.size() < signature.least || values.size() > signature.most) {
      refuse_arguments(signature, values.size());
    }
    return work(self_of<Self>(capsule), values);
  });
}

template <const Signature& signature, typename Self,
          PyObject* (*work)(const Self&, Arguments arguments)>
PyMethodDef method_of() {
  const FastCall function = &call<signature, Self, work>;
  // over a third type: compilers warn of casts between functions of different arguments
  const auto untyped = reinterpret_cast<void (*)()>(function);
  return {signature.name, reinterpret_cast<PyCFunction>(untyped), METH_FASTCALL,
          signature.arguments};
}

PyObject* optional_argument(Arguments arguments, std::size_t place) {
  return place < arguments.size() && arguments[place] != Py_None ? arguments[place] : nullptr;
}

py::type_error unexpected(const char* name, PyObject* value, const char* expected) {
  return py::type_error(std::string(name) + " is a " + Py_TYPE(value)->tp_name + ", expected " +
                        expected);
}

// Runs `encode` on a text, with the lock of the interpreter given up for a long one.
template <typename Encode>
Ids ids_of_text(PyObject* text, const Encode& encode) {
  if (PyUnicode_Check(text) && PyUnicode_IS_COMPACT_ASCII(text) &&
      PyUnicode_GET_LENGTH(text) < static_cast<Py_ssize_t>(min_unlocked_bytes)) {
    return encode(std::string_view(static_cast<const char*>(PyUnicode_DATA(text)),
                                   static_cast<std::size_t>(PyUnicode_GET_LENGTH(text))));
  }
  if (!PyUnicode_Check(text)) throw unexpected("text", text, "str: decode bytes first");
  Utf8Texts utf8;
  const std::string_view view = utf8.add(text);
  std::optional<py::gil_scoped_release> unlocked;
  if (view.size() >= min_unlocked_bytes) unlocked.emplace();
  return encode(view);
}

// Python's ids that stand around those of a text: the items of a tuple, as they are.
Arguments surrounding_ids(const char* name, PyObject* ids) {
  if (ids == nullptr) return {};
  if (!PyTuple_Check(ids)) throw unexpected(name, ids, "a tuple of ids");
  return {reinterpret_cast<PyTupleObject*>(ids)->ob_item,
          static_cast<std::size_t>(PyTuple_GET_SIZE(ids))};
}

PyObject* list_between(Arguments before, const Ids& ids, Arguments after) {
  const std::size_t size = before.size() + ids.size() + after.size();
  const auto list =
      py::reinterpret_steal<py::object>(PyList_New(static_cast<Py_ssize_t>(size)));
  if (!list) throw py::error_already_set();
  Py_ssize_t place = 0;
  for (PyObject* id : before) PyList_SET_ITEM(list.ptr(), place++, Py_NewRef(id));
  for (const std::uint32_t value : ids) {
    PyObject* id = PyLong_FromUnsignedLong(value);
    if (id == nullptr) throw py::error_already_set();
    PyList_SET_ITEM(list.ptr(), place++, id);
  }
  for (PyObject* id : after) PyList_SET_ITEM(list.ptr(), place++, Py_NewRef(id));
  return list.inc_ref().ptr();
}

Ids policy_ids(const char* name, PyObject* ids) {
  if (!PyList_Check(ids) && !PyTuple_Check(ids)) throw unexpected(name, ids, "a list of ids");
  constexpr std::size_t num_ids = std::size_t{std::numeric_limits<std::uint32_t>::max()} + 1;
  Ids narrow;
  for (const std::int64_t id : ids_of(py::reinterpret_borrow<py::object>(ids), num_ids)) {
    if (id < 0 || id >= static_cast<std::int64_t>(num_ids)) {
      throw std::invalid_argument(std::string(name) + " holds " + std::to_string(id) +
                                  ", expected ids of 0 and more");
    }
    narrow.push_back(static_cast<std::uint32_t>(id));
  }
  return narrow;
}

PyObject* encode_ordinary(const Encoder& encoder, Arguments arguments) {
  const Ids ids = ids_of_text(
      arguments[0], [&](std::string_view text) { return encoder.encode_ordinary(text); });
  return list_between({}, ids, {});
}

PyObject* encode_refusing(const Encoder& encoder, Arguments arguments) {
  const Arguments before = surrounding_ids("before", optional_argument(arguments, 1));
  const Arguments after = surrounding_ids("after", optional_argument(arguments, 2));
  const Ids ids = ids_of_text(
      arguments[0], [&](std::string_view text) { return encoder.encode_refusing(text); });
  return list_between(before, ids, after);
}

PyObject* encode(const Encoder& encoder, Arguments arguments) {
  const SpecialTokenPolicy policy{policy_ids("allowed_ids", arguments[1]),
                                  policy_ids("disallowed_ids", arguments[2])};
  PyObject* given = optional_argument(arguments, 3);
  const int is_start = given == nullptr ? 1 : PyObject_IsTrue(given);
  if (is_start < 0) throw py::error_already_set();
  const Arguments before = surrounding_ids("before", optional_argument(arguments, 4));
  const Arguments after = surrounding_ids("after", optional_argument(arguments, 5));
  const Ids ids = ids_of_text(arguments[0], [&](std::string_view text) {
    return encoder.encode(text, policy, is_start != 0);
  });
  return list_between(before, ids, after);
}

PyObject* count(const Encoder& encoder, Arguments arguments) {
  const Ids ids = ids_of_text(
      arguments[0], [&](std::string_view text) { return encoder.encode_ordinary(text); });
  return PyLong_FromSize_t(ids.size());
}

// The bytes of ids, but for those that `is_skipped`, bytes with one of each id, names.
std::string bytes_of_ids(const Decoder& decoder, PyObject* given, PyObject* is_skipped) {
  std::vector<std::int64_t> ids =
      ids_of(py::reinterpret_borrow<py::object>(given), decoder.size());
  if (is_skipped == nullptr) return decoder.decode(ids);
  if (!PyBytes_Check(is_skipped)) {
    throw unexpected("is_skipped", is_skipped, "bytes, one for each id");
  }
  const auto num_flags = static_cast<std::size_t>(PyBytes_GET_SIZE(is_skipped));
  if (num_flags != decoder.size()) {
    throw std::invalid_argument("is_skipped has " + std::to_string(num_flags) +
                                " bytes, expected one for each of " +
                                std::to_string(decoder.size()) + " ids");
  }
  const char* flags = PyBytes_AS_STRING(is_skipped);
  std::erase_if(ids, [&](std::int64_t id) {
    return id >= 0 && id < static_cast<std::int64_t>(num_flags) && flags[id] != 0;
  });
  return decoder.decode(ids);
}

PyObject* decode(const Decoder& decoder, Arguments arguments) {
  const std::string bytes =
      bytes_of_ids(decoder, arguments[0], optional_argument(arguments, 1));
  return PyBytes_FromStringAndSize(bytes.data(), static_cast<Py_ssize_t>(bytes.size()));
}

PyObject* decode_text(const Decoder& decoder, Arguments arguments) {
  const char* errors = nullptr;
  if (arguments.size() > 2) {
    if (!PyUnicode_Check(arguments[2])) throw unexpected("errors", arguments[2], "a str");
    errors = PyUnicode_AsUTF8(arguments[2]);
    if (errors == nullptr) throw py::error_already_set();
  }
  const std::string bytes =
      bytes_of_ids(decoder, arguments[0], optional_argument(arguments, 1));
  return PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), errors);
}

constexpr Signature encode_ordinary_signature{"encode_ordinary", 1, 1, "text"};
constexpr Signature encode_refusing_signature{"encode_refusing", 1, 3, "text, before, after"};
constexpr Signature encode_signature{
    "encode", 3, 6, "text, allowed_ids, disallowed_ids, is_start, before, after"};
constexpr Signature count_signature{"count", 1, 1, "text"};
constexpr Signature decode_signature{"decode", 1, 2, "ids, is_skipped"};
constexpr Signature decode_text_signature{"decode_text", 1, 3, "ids, is_skipped, errors"};

PyMethodDef encode_ordinary_method =
    method_of<encode_ordinary_signature, Encoder, &encode_ordinary>();
PyMethodDef encode_refusing_method =
    method_of<encode_refusing_signature, Encoder, &encode_refusing>();
PyMethodDef encode_method = method_of<encode_signature, Encoder, &encode>();
PyMethodDef count_method = method_of<count_signature, Encoder, &count>();
PyMethodDef decode_method = method_of<decode_signature, Decoder, &decode>();
PyMethodDef decode_text_method = method_of<decode_text_signature, Decoder, &decode_text>();

}  // namespace

py::object encode_ordinary_call(const py::object& encoder) {
  return bind<Encoder>(encoder, encode_ordinary_method);
}

py::object encode_refusing_call(const py::object& encoder) {
  return bind<Encoder>(encoder, encode_refusing_method);
}

py::object encode_call(const py::object& encoder) { return bind<Encoder>(encoder, encode_method); }

py::object count_call(const py::object& encoder) { return bind<Encoder>(encoder, count_method); }

py::object decode_call(const py::object& decoder) { return bind<Decoder>(decoder, decode_method); }

py::object decode_text_call(const py::object& decoder) {
  return bind<Decoder>(decoder, decode_text_method);
}

}  // namespace weldlm::bindings
