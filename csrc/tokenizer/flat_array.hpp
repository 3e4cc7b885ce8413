// Arrays that never change and lie in memory of their own or in an image: one block of bytes that
// can be a file in memory, which processes share.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace weldlm {

template <typename Value>
class FlatArray {
  static_assert(std::has_unique_object_representations_v<Value>, "an image has no chance bytes");

 public:
  FlatArray() = default;

  explicit FlatArray(std::vector<Value> values) {
    auto owner = std::make_shared<const std::vector<Value>>(std::move(values));
    view_ = *owner;
    owner_ = std::move(owner);
  }

  // `owner` keeps the memory of the view.
  FlatArray(std::span<const Value> view, std::shared_ptr<const void> owner)
      : view_(view), owner_(std::move(owner)) {}

  std::size_t size() const noexcept { return view_.size(); }
  const Value* data() const noexcept { return view_.data(); }
  const Value& operator[](std::size_t index) const noexcept { return view_[index]; }
  std::span<const Value> view() const noexcept { return view_; }

 private:
  std::span<const Value> view_;
  std::shared_ptr<const void> owner_;
};

// Places in an image are multiples of this.
inline constexpr std::size_t image_alignment = 64;

class ImageWriter {
 public:
  template <typename Value>
  void add(std::span<const Value> values) {
    add_bytes({reinterpret_cast<const char*>(values.data()), values.size_bytes()}, values.size());
  }

  template <typename Value>
  void add(const FlatArray<Value>& values) {
    add(values.view());
  }

  std::string take() { return std::move(bytes_); }

 private:
  void add_bytes(std::string_view bytes, std::uint64_t count) {
    bytes_.append(reinterpret_cast<const char*>(&count), sizeof(count));
    bytes_.resize(aligned(bytes_.size()));
    bytes_ += bytes;
    bytes_.resize(aligned(bytes_.size()));
  }

  static std::size_t aligned(std::size_t size) noexcept {
    return (size + image_alignment - 1) / image_alignment * image_alignment;
  }

  std::string bytes_;
};

// Reads in the order in which an ImageWriter wrote. It looks at sizes; whoever reads an array checks
// what it uses as an index: the checksum of an image tells damage, not intent.
class ImageReader {
 public:
  // The arrays that are read keep `owner`, which keeps the bytes. Throws std::invalid_argument
  // unless they begin at a place that is aligned.
  ImageReader(std::string_view bytes, std::shared_ptr<const void> owner)
      : bytes_(bytes), owner_(std::move(owner)) {
    if (reinterpret_cast<std::uintptr_t>(bytes.data()) % image_alignment != 0) {
      throw std::invalid_argument("the image is not aligned to " +
                                  std::to_string(image_alignment) + " bytes");
    }
  }

  // Throws std::invalid_argument if the image ends before the array does.
  template <typename Value>
  FlatArray<Value> array() {
    std::uint64_t count = 0;
    std::memcpy(&count, skip(sizeof(count), 1), sizeof(count));
    const char* data = skip(count, sizeof(Value));
    return FlatArray<Value>({reinterpret_cast<const Value*>(data), count}, owner_);
  }

  template <typename Value>
  Value value() {
    const FlatArray<Value> values = array<Value>();
    if (values.size() != 1) throw std::invalid_argument("the image has no value where one belongs");
    return values[0];
  }

 private:
  // The place of so many values, and on to the next aligned place.
  const char* skip(std::uint64_t count, std::size_t size) {
    const std::size_t left = bytes_.size() - place_;
    if (count > left / size) {
      throw std::invalid_argument("the image ends at byte " + std::to_string(bytes_.size()) +
                                  ", inside an array");
    }
    const char* data = bytes_.data() + place_;
    const std::size_t end = place_ + static_cast<std::size_t>(count) * size;
    place_ = std::min(bytes_.size(), (end + image_alignment - 1) / image_alignment * image_alignment);
    return data;
  }

  std::string_view bytes_;
  std::shared_ptr<const void> owner_;
  std::size_t place_ = 0;
};

// Tells damage, not intent.
std::uint64_t image_checksum(std::string_view bytes) noexcept;

}  // namespace weldlm
