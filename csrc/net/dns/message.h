// DNS messages (RFC 1035): as much as a small resolver needs to read and write.  Every byte read here comes
// from a container or from a server that it made us ask.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "net/address.h"

namespace fastdock::net::dns {

using Message = std::vector<std::uint8_t>;
using View = std::span<const std::uint8_t>;

inline constexpr std::size_t kHeaderSize = 12;
inline constexpr std::size_t kPlainUdpSize = 512;  // RFC 1035, 4.2.1
inline constexpr std::size_t kLargestUdpSize = 4096;
inline constexpr std::uint16_t kA = 1, kPtr = 12, kAaaa = 28, kOpt = 41, kAny = 255;
inline constexpr std::uint16_t kInternet = 1;

enum class Code : std::uint8_t {
  kNoError = 0,
  kFormat = 1,
  kServerFailure = 2,
  kNoSuchName = 3,
  kNotImplemented = 4
};

struct Question {
  std::string name;  // lower case, without the final dot; bytes that host names do not have as \DDD
  std::uint16_t type = 0;
  std::uint16_t klass = 0;
  std::size_t end = 0;                   // of the question in the message
  std::size_t udp_size = kPlainUdpSize;  // what the asker can take (EDNS, RFC 6891)
  bool edns = false;
};

struct Refusal {
  Code code;
};

// The one question of a query.  nullopt: not a query at all, to be ignored.
std::optional<std::expected<Question, Refusal>> read_query(View message);

// Whether `response` answers `query`: same id, a response, and the same question byte for byte but for case.
bool answers(View response, View query);

struct Address {
  IpAddress address;
  std::uint32_t ttl = 0;
};
// The A and AAAA records among the answers.  Stops at the first malformed record.
std::vector<Address> addresses_in(View response);

struct Answer {
  std::uint16_t type = 0;
  Message data;
};
Message name_data(std::string_view name);  // the wire form of a host name, for a PTR record

// An answer to `query`, from us; with `code` and no answers it is a refusal.  Cut to `limit` bytes, with the
// truncation bit set.
Message make_response(View query, const Question& question, Code code, const std::vector<Answer>& answers,
                      std::uint32_t ttl, std::size_t limit);
// For a query whose question cannot be read.
Message make_refusal(View query, Code code);

// "2.0.17.172.in-addr.arpa" or the ip6.arpa form as an address.
std::optional<IpAddress> address_of_pointer(std::string_view name);

}  // namespace fastdock::net::dns
