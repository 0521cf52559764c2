// Addresses as plain values: IPv4 and IPv6 in one type, prefixes, and Ethernet addresses.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace fastdock::net {

struct IpAddress {
  std::uint8_t family = AF_UNSPEC;  // AF_INET, AF_INET6, or AF_UNSPEC for "none"
  std::array<std::uint8_t, 16> octets{};

  [[nodiscard]] std::size_t size() const { return family == AF_INET6 ? 16 : 4; }
  [[nodiscard]] std::span<const std::byte> bytes() const {
    return std::as_bytes(std::span(octets).first(size()));
  }
  explicit operator bool() const { return family != AF_UNSPEC; }
  friend bool operator==(const IpAddress&, const IpAddress&) = default;
};

struct Prefix {
  IpAddress address;  // may have host bits: an interface's address and its network's length
  std::uint8_t length = 0;
};

using Mac = std::array<std::uint8_t, 6>;

// "10.0.0.1" or "fd00::1"; nothing else (no zone, no port).
Result<IpAddress> parse_address(std::string_view text);
// "10.0.0.1/24"; without a length it is one address.
Result<Prefix> parse_prefix(std::string_view text);
// "02:42:ac:11:00:02", unicast only.
Result<Mac> parse_mac(std::string_view text);
std::string to_text(const IpAddress& address);

// The first and the last address of the prefix's network.
IpAddress first_of(const Prefix& prefix);
IpAddress last_of(const Prefix& prefix);

// fe80::/64 with the interface identifier that the kernel makes of an Ethernet address (RFC 4291, appendix
// A).
IpAddress link_local_of(const Mac& mac);

}  // namespace fastdock::net
