// Unmarshalling of bytes that others sent: bounds, padding, strings and nesting are checked, and the first
// thing that is wrong is an error (EBADMSG).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace fastdock::dbus {

class Reader {
 public:
  // `bytes` begin at a multiple of 8, and must stay.
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  Result<std::uint8_t> byte();
  Result<std::uint16_t> u16() { return number<std::uint16_t>(); }
  Result<std::uint32_t> u32() { return number<std::uint32_t>(); }
  Result<std::uint64_t> u64() { return number<std::uint64_t>(); }
  Result<bool> boolean();
  Result<std::string> text();       // s and o
  Result<std::string> signature();  // complete types only
  // The length in bytes of an array's elements, which come next.
  Result<std::size_t> open_array(std::size_t alignment_of_elements);
  Result<void> align(std::size_t alignment);
  // Past one value of each complete type in `signature`.
  Result<void> skip(std::string_view signature);
  // A variant that holds a string.
  Result<std::string> text_variant();

  [[nodiscard]] std::size_t position() const { return at_; }
  [[nodiscard]] bool at_end() const { return at_ == bytes_.size(); }

 private:
  template <class T>
  Result<T> number();
  Result<std::string_view> take(std::size_t count);
  Result<void> skip_one(std::string_view type, int depth);

  std::string_view bytes_;
  std::size_t at_ = 0;
};

// The length of the first complete type: "a{sv}" of "a{sv}u".  EBADMSG: there is none.
Result<std::size_t> length_of_type(std::string_view signature);

}  // namespace fastdock::dbus
