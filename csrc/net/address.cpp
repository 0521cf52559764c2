#include "net/address.h"

#include <arpa/inet.h>

#include <cerrno>
#include <charconv>

namespace fastdock::net {
namespace {

IpAddress filled(const Prefix& prefix, std::uint8_t host_bits) {
  IpAddress made = prefix.address;
  for (std::size_t i = 0; i < made.size(); ++i) {
    int kept = static_cast<int>(prefix.length) - static_cast<int>(i * 8);
    if (kept >= 8) continue;
    auto mask = static_cast<std::uint8_t>(kept <= 0 ? 0xff : 0xff >> kept);
    made.octets[i] = static_cast<std::uint8_t>((made.octets[i] & ~mask) | (host_bits & mask));
  }
  return made;
}

}  // namespace

Result<IpAddress> parse_address(std::string_view text) {
  IpAddress made;
  std::string terminated(text);
  made.family = text.find(':') == std::string_view::npos ? AF_INET : AF_INET6;
  if (text.contains('\0') || ::inet_pton(made.family, terminated.c_str(), made.octets.data()) != 1)
    return failed_with(EINVAL, Operation::kParse, "the address '" + terminated + "'");
  return made;
}

Result<Prefix> parse_prefix(std::string_view text) {
  Prefix made;
  std::size_t slash = text.find('/');
  FASTDOCK_TRY(made.address, parse_address(text.substr(0, slash)));
  auto longest = static_cast<unsigned>(made.address.size() * 8);
  unsigned length = longest;
  if (slash != std::string_view::npos) {
    std::string_view digits = text.substr(slash + 1);
    auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
    if (error != std::errc{} || end != digits.data() + digits.size() || length > longest)
      return failed_with(EINVAL, Operation::kParse, "the prefix '" + std::string(text) + "'");
  }
  made.length = static_cast<std::uint8_t>(length);
  return made;
}

Result<Mac> parse_mac(std::string_view text) {
  Mac made{};
  auto bad = [&] {
    return failed_with(EINVAL, Operation::kParse, "the MAC address '" + std::string(text) + "'");
  };
  if (text.size() != 17) return bad();
  for (std::size_t i = 0; i < made.size(); ++i) {
    const char* digits = text.data() + i * 3;
    auto [end, error] = std::from_chars(digits, digits + 2, made[i], 16);
    if (error != std::errc{} || end != digits + 2) return bad();
    if (i < 5 && digits[2] != ':' && digits[2] != '-') return bad();
  }
  if (made[0] & 1) return bad();  // a group address cannot be a sender
  return made;
}

std::string to_text(const IpAddress& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (!address) return {};
  ::inet_ntop(address.family, address.octets.data(), text.data(), text.size());
  return text.data();
}

IpAddress first_of(const Prefix& prefix) { return filled(prefix, 0x00); }
IpAddress last_of(const Prefix& prefix) { return filled(prefix, 0xff); }

IpAddress link_local_of(const Mac& mac) {
  IpAddress made;
  made.family = AF_INET6;
  made.octets = {0xfe,   0x80,   0,    0,    0,      0,      0,     0, static_cast<std::uint8_t>(mac[0] ^ 2),
                 mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]};
  return made;
}

}  // namespace fastdock::net
