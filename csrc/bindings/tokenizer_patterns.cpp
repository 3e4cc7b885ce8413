// Pretokenizers that follow a pattern: scanners, sequences, and functions of Python.
#include <pybind11/stl.h>

#include <stdexcept>

#include "bindings/tokenizer_bindings.hpp"
#include "tokenizer/patterns.hpp"
#include "tokenizer/unicode.hpp"

namespace weldlm::bindings {
namespace {

using Steps = std::vector<std::shared_ptr<Pretokenizer>>;

// A Python function that may be called, copied and freed without the lock of the interpreter.
std::shared_ptr<py::function> guarded(py::function function) {
  auto owner = std::make_unique<py::function>(std::move(function));
  return {owner.release(), [](py::function* owned) {
            const py::gil_scoped_acquire locked;
            std::unique_ptr<py::function>(owned).reset();
          }};
}

// Asks a Python function for all pieces of a text: it is given the text and returns the begin and
// the end of each piece, in characters, one behind the other.
class CallbackPretokenizer : public Pretokenizer {
 public:
  explicit CallbackPretokenizer(py::function find_spans)
      : find_spans_(guarded(std::move(find_spans))) {}

  std::size_t split(std::string_view text, std::size_t start,
                    std::vector<ByteRange>& pieces) const override {
    const py::gil_scoped_acquire locked;
    const py::str string = py::reinterpret_steal<py::str>(PyUnicode_DecodeUTF8(
        text.data() + start, static_cast<py::ssize_t>(text.size() - start), "replace"));
    if (!string) throw py::error_already_set();
    const auto bounds = (*find_spans_)(string).cast<std::vector<std::size_t>>();
    append(text, start, bounds, pieces);
    return text.size();
  }

 private:
  static void append(std::string_view text, std::size_t start,
                     const std::vector<std::size_t>& bounds, std::vector<ByteRange>& pieces) {
    std::size_t character = 0;
    std::size_t byte = start;
    const auto byte_of = [&](std::size_t bound) {
      for (; character < bound && byte < text.size(); ++character) {
        byte += char_at(text, byte).size;
      }
      if (character != bound) {
        throw std::invalid_argument("spans of pieces do not lie in the text in its order");
      }
      return byte;
    };
    for (std::size_t i = 0; i + 1 < bounds.size(); i += 2) {
      const std::size_t begin = byte_of(bounds[i]);
      const std::size_t end = byte_of(bounds[i + 1]);
      if (begin < end) pieces.push_back({begin, end});
    }
  }

  std::shared_ptr<py::function> find_spans_;
};

py::list pieces(const Pretokenizer& pretokenizer, const py::str& text) {
  Utf8Texts utf8;
  const std::string_view view = utf8.add(text);
  std::vector<ByteRange> ranges;
  for (std::size_t start = 0; start < view.size();) {
    start = pretokenizer.split(view, start, ranges);
  }
  py::list list;
  for (const auto& [begin, end] : ranges) list.append(py::bytes(view.substr(begin, end - begin)));
  return list;
}

// The class of each code point, as a byte.
py::bytes char_classes() {
  std::string classes(0x110000, '\0');
  for (std::size_t code_point = 0; code_point < classes.size(); ++code_point) {
    classes[code_point] = static_cast<char>(char_class(static_cast<char32_t>(code_point)));
  }
  return py::bytes(classes);
}

}  // namespace

void bind_patterns(py::module_& module) {
  py::class_<PatternPretokenizer, Pretokenizer, std::shared_ptr<PatternPretokenizer>>(
      module, "PatternPretokenizer")
      .def(py::init([](std::string_view family) {
             return std::make_shared<PatternPretokenizer>(find_pattern(family));
           }),
           py::arg("family"));
  py::class_<PretokenizerSequence, Pretokenizer, std::shared_ptr<PretokenizerSequence>>(
      module, "PretokenizerSequence")
      .def(py::init([](const Steps& steps) {
             return std::make_shared<PretokenizerSequence>(
                 std::vector<std::shared_ptr<const Pretokenizer>>(steps.begin(), steps.end()));
           }),
           py::arg("steps"));
  py::class_<CallbackPretokenizer, Pretokenizer, std::shared_ptr<CallbackPretokenizer>>(
      module, "CallbackPretokenizer")
      .def(py::init<py::function>(), py::arg("find_spans"));
  module.def("pieces", &pieces, py::arg("pretokenizer"), py::arg("text"));
  module.def("char_classes", &char_classes);
}

}  // namespace weldlm::bindings
