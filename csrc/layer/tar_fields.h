// The fields of a tar header block: POSIX.1-1988 ustar, and what GNU tar and star made of its space.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "layer/layer.h"

namespace fastdock::layer {

inline constexpr std::size_t kBlock = 512;

// One header block; views into it, so it must outlive them.
class TarHeader {
 public:
  explicit TarHeader(const std::uint8_t* block) : block_(reinterpret_cast<const char*>(block)) {}

  // The bytes of a field, up to its first NUL.
  [[nodiscard]] std::string_view text(std::size_t offset, std::size_t size) const;
  [[nodiscard]] std::string_view raw(std::size_t offset, std::size_t size) const {
    return {block_ + offset, size};
  }
  [[nodiscard]] bool zero() const;
  // The sum of all bytes with the field itself as blanks; old writers summed signed chars.
  [[nodiscard]] bool checksum_fits() const;

  [[nodiscard]] std::string_view name() const { return text(0, 100); }
  [[nodiscard]] std::string_view mode() const { return raw(100, 8); }
  [[nodiscard]] std::string_view uid() const { return raw(108, 8); }
  [[nodiscard]] std::string_view gid() const { return raw(116, 8); }
  [[nodiscard]] std::string_view size() const { return raw(124, 12); }
  [[nodiscard]] std::string_view mtime() const { return raw(136, 12); }
  [[nodiscard]] char type() const { return block_[156]; }
  [[nodiscard]] std::string_view link() const { return text(157, 100); }
  [[nodiscard]] bool is_gnu() const { return raw(257, 8) == std::string_view("ustar  \0", 8); }
  [[nodiscard]] bool is_ustar() const { return !is_gnu() && raw(257, 5) == "ustar"; }
  [[nodiscard]] std::string_view device_major() const { return raw(329, 8); }
  [[nodiscard]] std::string_view device_minor() const { return raw(337, 8); }
  // ustar's prefix; shorter in star's headers, absent in GNU's and in those from before POSIX.
  [[nodiscard]] std::string_view prefix() const;

 private:
  const char* block_;
};

// A numeric field: octal digits, or GNU's base 256 if the first bit is set.  Blank is 0.
std::optional<std::int64_t> parse_number(std::string_view field);
// Decimal digits only, as in pax records.
std::optional<std::uint64_t> parse_decimal(std::string_view text);
// pax times: [-]seconds[.fraction].
std::optional<timespec> parse_time(std::string_view text);

}  // namespace fastdock::layer
