// Images: the tables of a vocabulary as one block of bytes, and objects that use it in place.
#include <pybind11/pybind11.h>

#include <memory>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "bindings/tokenizer_bindings.hpp"
#include "tokenizer/bpe.hpp"
#include "tokenizer/decoder.hpp"
#include "tokenizer/flat_array.hpp"
#include "tokenizer/vocabulary.hpp"

namespace weldlm::bindings {
namespace {

std::string_view bytes_of(const py::buffer_info& buffer) {
  return {static_cast<const char*>(buffer.ptr), static_cast<std::size_t>(buffer.size)};
}

py::bytes write_image(const Vocabulary& vocabulary, const Decoder& decoder, const ByteBpe* model) {
  ImageWriter writer;
  vocabulary.write(writer);
  decoder.write(writer);
  if (model != nullptr) model->write(writer);
  return py::bytes(writer.take());
}

// What the arrays in a buffer hold on to; the last of them may end in any thread.
struct HeldBuffer {
  py::buffer_info info;

  explicit HeldBuffer(py::buffer_info given) : info(std::move(given)) {}
  HeldBuffer(const HeldBuffer&) = delete;
  HeldBuffer& operator=(const HeldBuffer&) = delete;
  ~HeldBuffer() {
    const py::gil_scoped_acquire locked;
    info = py::buffer_info();
  }
};

py::tuple read_image(const py::buffer& buffer, bool has_model) {
  py::buffer_info info = buffer.request();
  const std::string_view bytes = bytes_of(info);
  ImageReader reader(bytes, std::make_shared<const HeldBuffer>(std::move(info)));
  auto vocabulary = std::make_shared<Vocabulary>(reader);
  auto decoder = std::make_unique<Decoder>(reader);
  std::shared_ptr<ByteBpe> model;
  if (has_model) model = std::make_shared<ByteBpe>(reader);
  if (decoder->size() != vocabulary->size() ||
      (model != nullptr && model->vocabulary().size() != vocabulary->size())) {
    throw std::invalid_argument("the parts of the image are of different vocabularies");
  }
  return py::make_tuple(std::move(vocabulary), std::move(decoder), std::move(model));
}

}  // namespace

void bind_image(py::module_& module) {
  module.def("write_image", &write_image, py::arg("vocabulary"), py::arg("decoder"),
             py::arg("model").none(true));
  module.def("read_image", &read_image, py::arg("buffer"), py::arg("has_model"));
  module.def(
      "image_checksum",
      [](const py::buffer& buffer) { return image_checksum(bytes_of(buffer.request())); },
      py::arg("buffer"));
}

}  // namespace weldlm::bindings
