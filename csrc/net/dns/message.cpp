#include "net/dns/message.h"

#include <algorithm>
#include <charconv>
#include <cstring>

namespace fastdock::net::dns {
namespace {

constexpr std::uint8_t kResponse = 0x80, kRecursionDesired = 0x01, kRecursionAvailable = 0x80,
                       kTruncated = 0x02;
constexpr std::size_t kLongestName = 255;  // octets on the wire, RFC 1035 2.3.4

std::uint16_t number16(View message, std::size_t at) {
  return static_cast<std::uint16_t>(message[at] << 8 | message[at + 1]);
}
std::uint32_t number32(View message, std::size_t at) {
  return static_cast<std::uint32_t>(number16(message, at)) << 16 | number16(message, at + 2);
}
void put16(Message& message, std::size_t value) {
  message.push_back(static_cast<std::uint8_t>(value >> 8));
  message.push_back(static_cast<std::uint8_t>(value));
}

std::uint8_t lower(std::uint8_t byte) { return byte >= 'A' && byte <= 'Z' ? byte + ('a' - 'A') : byte; }

void append_label(std::string& name, View label) {
  if (!name.empty()) name.push_back('.');
  for (std::uint8_t byte : label) {
    byte = lower(byte);
    bool plain = (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '-' || byte == '_';
    if (plain) {
      name.push_back(static_cast<char>(byte));
    } else {
      name += {'\\', static_cast<char>('0' + byte / 100), static_cast<char>('0' + byte / 10 % 10),
               static_cast<char>('0' + byte % 10)};
    }
  }
}

// Reads the uncompressed name at `at` and moves `at` behind it.
bool read_name(View message, std::size_t& at, std::string& name) {
  std::size_t start = at;
  while (at < message.size()) {
    std::size_t length = message[at++];
    if (length == 0) return at - start <= kLongestName;
    // The top bits mark compression (RFC 1035 4.1.4): a query's question has nothing before it to point to.
    if (length > 63 || at + length > message.size()) return false;
    append_label(name, message.subspan(at, length));
    at += length;
  }
  return false;
}

// Moves `at` behind the name there, compressed or not.  Pointers are not followed, so there are no loops.
bool skip_name(View message, std::size_t& at) {
  while (at < message.size()) {
    std::size_t length = message[at++];
    if (length == 0) return true;
    if ((length & 0xc0) == 0xc0) return ++at <= message.size();
    if (length > 63) return false;
    at += length;
  }
  return false;
}

struct Record {
  std::uint16_t type = 0, klass = 0;
  std::uint32_t ttl = 0;
  View data;
};

bool read_record(View message, std::size_t& at, Record& record) {
  if (!skip_name(message, at) || at + 10 > message.size()) return false;
  record.type = number16(message, at);
  record.klass = number16(message, at + 2);
  record.ttl = number32(message, at + 4);
  std::size_t size = number16(message, at + 8);
  at += 10;
  if (at + size > message.size()) return false;
  record.data = message.subspan(at, size);
  at += size;
  return true;
}

Message start_response(View query, Code code) {
  Message made;
  made.reserve(kPlainUdpSize);
  made.assign(query.begin(), query.begin() + kHeaderSize);
  made[2] =
      static_cast<std::uint8_t>(kResponse | (query[2] & (0x78 | kRecursionDesired)));  // keep the opcode
  made[3] = static_cast<std::uint8_t>(kRecursionAvailable | static_cast<std::uint8_t>(code));
  std::fill(made.begin() + 4, made.end(), std::uint8_t{0});
  return made;
}

}  // namespace

std::optional<std::expected<Question, Refusal>> read_query(View message) {
  if (message.size() < kHeaderSize || (message[2] & kResponse)) return std::nullopt;
  if ((message[2] >> 3 & 0xf) != 0) return std::unexpected(Refusal{Code::kNotImplemented});
  if (number16(message, 4) != 1) return std::unexpected(Refusal{Code::kFormat});
  Question question;
  std::size_t at = kHeaderSize;
  if (!read_name(message, at, question.name) || at + 4 > message.size())
    return std::unexpected(Refusal{Code::kFormat});
  question.type = number16(message, at);
  question.klass = number16(message, at + 2);
  question.end = at + 4;
  at = question.end;
  std::size_t others = std::size_t{number16(message, 6)} + number16(message, 8) + number16(message, 10);
  for (Record record; others > 0 && read_record(message, at, record); --others) {
    if (record.type != kOpt) continue;
    question.edns = true;
    question.udp_size = std::clamp<std::size_t>(record.klass, kPlainUdpSize, kLargestUdpSize);
  }
  return question;
}

bool answers(View response, View query) {
  auto asked = read_query(query);
  if (!asked || !*asked || response.size() < (*asked)->end || !(response[2] & kResponse)) return false;
  if (number16(response, 0) != number16(query, 0) || number16(response, 4) != 1) return false;
  return std::equal(query.begin() + kHeaderSize, query.begin() + static_cast<std::ptrdiff_t>((*asked)->end),
                    response.begin() + kHeaderSize,
                    [](std::uint8_t a, std::uint8_t b) { return lower(a) == lower(b); });
}

std::vector<Address> addresses_in(View response) {
  std::vector<Address> found;
  if (response.size() < kHeaderSize) return found;
  std::size_t at = kHeaderSize;
  for (std::size_t questions = number16(response, 4); questions > 0; --questions) {
    if (!skip_name(response, at)) return found;
    at += 4;
  }
  Record record;
  for (std::size_t count = number16(response, 6); count > 0 && read_record(response, at, record); --count) {
    bool is4 = record.type == kA && record.data.size() == 4;
    bool is6 = record.type == kAaaa && record.data.size() == 16;
    if (record.klass != kInternet || (!is4 && !is6)) continue;
    Address address{{static_cast<std::uint8_t>(is6 ? AF_INET6 : AF_INET), {}}, record.ttl};
    std::ranges::copy(record.data, address.address.octets.begin());
    found.push_back(address);
  }
  return found;
}

Message name_data(std::string_view name) {
  Message made;
  while (!name.empty()) {
    std::string_view label = name.substr(0, std::min(name.find('.'), name.size()));
    name.remove_prefix(std::min(label.size() + 1, name.size()));
    label = label.substr(0, 63);
    if (label.empty() || made.size() + label.size() + 2 > kLongestName) continue;
    made.push_back(static_cast<std::uint8_t>(label.size()));
    made.insert(made.end(), label.begin(), label.end());
  }
  made.push_back(0);
  return made;
}

Message make_response(View query, const Question& question, Code code, const std::vector<Answer>& answers,
                      std::uint32_t ttl, std::size_t limit) {
  Message made = start_response(query, code);
  made[5] = 1;
  made.insert(made.end(), query.begin() + kHeaderSize,
              query.begin() + static_cast<std::ptrdiff_t>(question.end));
  std::size_t options = question.edns ? 11 : 0;
  std::size_t count = 0;
  for (const auto& answer : answers) {
    if (made.size() + 12 + answer.data.size() + options > limit || count == 0xffff) {
      made[2] |= kTruncated;
      break;
    }
    put16(made, 0xc000 | kHeaderSize);  // the question's name
    put16(made, answer.type);
    put16(made, kInternet);
    put16(made, ttl >> 16);
    put16(made, ttl & 0xffff);
    put16(made, answer.data.size());
    made.insert(made.end(), answer.data.begin(), answer.data.end());
    ++count;
  }
  made[6] = static_cast<std::uint8_t>(count >> 8);
  made[7] = static_cast<std::uint8_t>(count);
  if (question.edns) {  // a responder that understood OPT answers with one
    made[11] = 1;
    made.push_back(0);
    put16(made, kOpt);
    put16(made, kLargestUdpSize);
    made.resize(made.size() + 6);
  }
  return made;
}

Message make_refusal(View query, Code code) { return start_response(query, code); }

std::optional<IpAddress> address_of_pointer(std::string_view name) {
  constexpr std::string_view kSuffix4 = ".in-addr.arpa", kSuffix6 = ".ip6.arpa";
  IpAddress made;
  bool is6 = name.ends_with(kSuffix6);
  if (!is6 && !name.ends_with(kSuffix4)) return std::nullopt;
  name.remove_suffix(is6 ? kSuffix6.size() : kSuffix4.size());
  made.family = is6 ? AF_INET6 : AF_INET;
  std::size_t parts = is6 ? 32 : 4;
  for (std::size_t i = parts; i-- > 0;) {  // the last part comes first
    std::string_view part = name.substr(0, std::min(name.find('.'), name.size()));
    name.remove_prefix(std::min(part.size() + 1, name.size()));
    std::uint8_t value = 0;
    auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value, is6 ? 16 : 10);
    if (error != std::errc{} || end != part.data() + part.size() || (is6 && part.size() != 1))
      return std::nullopt;
    if (is6) {
      made.octets[i / 2] |= static_cast<std::uint8_t>(i % 2 == 0 ? value << 4 : value);
    } else {
      made.octets[i] = value;
    }
  }
  if (!name.empty()) return std::nullopt;
  return made;
}

}  // namespace fastdock::net::dns
