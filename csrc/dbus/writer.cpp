#include "dbus/writer.h"

#include <cstring>

namespace fastdock::dbus {

Writer& Writer::align(std::size_t alignment) {
  bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment);
  return *this;
}

Writer& Writer::text(std::string_view value) {
  u32(static_cast<std::uint32_t>(value.size()));
  bytes_.append(value).push_back('\0');
  return *this;
}

Writer& Writer::signature(std::string_view value) {
  byte(static_cast<std::uint8_t>(value.size()));
  bytes_.append(value).push_back('\0');
  return *this;
}

Writer& Writer::byte_array(std::string_view value) {
  u32(static_cast<std::uint32_t>(value.size()));
  bytes_.append(value);
  return *this;
}

Writer::Array Writer::open_array(std::size_t alignment_of_elements) {
  u32(0);
  std::size_t length_at = bytes_.size() - 4;
  // The padding before the first element is not of the length.
  align(alignment_of_elements);
  return {length_at, bytes_.size()};
}

void Writer::close_array(Array array) {
  auto length = static_cast<std::uint32_t>(bytes_.size() - array.begin);
  std::memcpy(bytes_.data() + array.length_at, &length, sizeof length);
}

Writer& Writer::append(const Writer& other) {
  align(8);
  bytes_ += other.bytes_;
  return *this;
}

}  // namespace fastdock::dbus
