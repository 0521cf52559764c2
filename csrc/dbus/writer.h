// Marshalling, as the D-Bus specification has it ("Message Protocol", "Marshaling"): every value at a
// multiple of its alignment from the start.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace fastdock::dbus {

class Writer {
 public:
  Writer& byte(std::uint8_t value) {
    bytes_ += static_cast<char>(value);
    return *this;
  }
  Writer& u16(std::uint16_t value) { return number(value); }
  Writer& u32(std::uint32_t value) { return number(value); }
  Writer& u64(std::uint64_t value) { return number(value); }
  Writer& boolean(bool value) { return u32(value ? 1 : 0); }
  Writer& text(std::string_view value);  // s and o
  Writer& signature(std::string_view value);
  // The start of a struct.
  Writer& structure() { return align(8); }
  // "ay"
  Writer& byte_array(std::string_view value);
  // Elements between open_array and close_array(its answer).
  struct Array {
    std::size_t length_at, begin;
  };
  Array open_array(std::size_t alignment_of_elements);
  void close_array(Array array);
  Writer& align(std::size_t alignment);
  // What another writer has marshalled: it must begin at a multiple of 8.
  Writer& append(const Writer& other);

  [[nodiscard]] const std::string& bytes() const { return bytes_; }

 private:
  template <class T>
  Writer& number(T value) {
    align(sizeof value);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }

  std::string bytes_;
};

}  // namespace fastdock::dbus
