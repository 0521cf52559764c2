#include "layer/tar_fields.h"

#include <algorithm>
#include <charconv>
#include <limits>

namespace fastdock::layer {
namespace {

std::optional<std::int64_t> parse_base256(std::string_view field) {
  // Two's complement, big endian, of 7 + 8 * (n - 1) bits: the first bit is the mark, the second the sign.
  bool negative = (field[0] & 0x40) != 0;
  std::uint64_t value = negative ? ~std::uint64_t{0} : 0;
  for (std::size_t i = 0; i < field.size(); ++i) {
    auto byte = static_cast<std::uint8_t>(field[i]);
    if (i == 0) byte = negative ? byte | 0x80 : byte & 0x7f;
    // What is shifted out must be nothing but sign.
    auto top = static_cast<std::int64_t>(value) >> 55;
    if (top != (negative ? -1 : 0)) return std::nullopt;
    value = value << 8 | byte;
  }
  return static_cast<std::int64_t>(value);
}

}  // namespace

std::string_view TarHeader::text(std::size_t offset, std::size_t size) const {
  std::string_view field = raw(offset, size);
  return field.substr(0, std::min(field.find('\0'), size));
}

bool TarHeader::zero() const {
  return std::all_of(block_, block_ + kBlock, [](char byte) { return byte == 0; });
}

bool TarHeader::checksum_fits() const {
  auto stored = parse_number(raw(148, 8));
  if (!stored) return false;
  std::int64_t as_unsigned = 0;
  std::int64_t as_signed = 0;
  for (std::size_t i = 0; i < kBlock; ++i) {
    char byte = i >= 148 && i < 156 ? ' ' : block_[i];
    as_unsigned += static_cast<unsigned char>(byte);
    as_signed += static_cast<signed char>(byte);
  }
  return *stored == as_unsigned || *stored == as_signed;
}

std::string_view TarHeader::prefix() const {
  if (!is_ustar()) return {};
  bool star = raw(508, 4) == std::string_view("tar\0", 4);
  return text(345, star ? 131 : 155);
}

std::optional<std::int64_t> parse_number(std::string_view field) {
  if (!field.empty() && (field[0] & 0x80) != 0) return parse_base256(field);
  constexpr std::string_view kBlank(" \0", 2);
  auto start = field.find_first_not_of(kBlank);
  if (start == std::string_view::npos) return 0;
  field.remove_prefix(start);
  field = field.substr(0, std::min(field.find_first_of(kBlank), field.size()));
  std::int64_t value = 0;
  auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value, 8);
  if (error != std::errc() || end != field.data() + field.size() || value < 0) return std::nullopt;
  return value;
}

std::optional<std::uint64_t> parse_decimal(std::string_view text) {
  std::uint64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 10);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return std::nullopt;
  return value;
}

std::optional<timespec> parse_time(std::string_view text) {
  bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  auto point = std::min(text.find('.'), text.size());
  auto seconds = parse_decimal(text.substr(0, point));
  if (!seconds) return std::nullopt;
  long nanoseconds = 0;
  long unit = 100'000'000;
  // Digits beyond nanoseconds are cut off, as in Go's archive/tar and in libarchive.
  for (char digit : text.substr(std::min(point + 1, text.size()))) {
    if (digit < '0' || digit > '9') return std::nullopt;
    nanoseconds += unit * (digit - '0');
    unit /= 10;
  }
  auto whole = static_cast<std::int64_t>(*seconds);
  if (!negative) return timespec{whole, nanoseconds};
  if (nanoseconds == 0) return timespec{-whole, 0};
  return timespec{-whole - 1, 1'000'000'000 - nanoseconds};
}

}  // namespace fastdock::layer
