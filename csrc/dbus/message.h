// One D-Bus message: "Message Format" of the specification.  In this machine's byte order, as everybody on a
// local bus sends them; without descriptors.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "dbus/writer.h"

namespace fastdock::dbus {

enum class MessageType : std::uint8_t { kCall = 1, kReturn = 2, kError = 3, kSignal = 4 };

struct Message {
  MessageType type = MessageType::kCall;
  std::uint32_t serial = 0, reply_serial = 0;
  std::string path, interface, member, error_name, destination, sender, signature;
  std::string body;

  // An error's own words, where it has some.
  [[nodiscard]] std::string error_text() const;
};

// The fixed part of the header, and of that the size of the whole message.
inline constexpr std::size_t kFixedHeader = 16;
// The specification allows 128 MiB; what systemd answers us is some hundred bytes.
inline constexpr std::size_t kLargestMessage = 1 << 20;

std::string to_bytes(const Message& message);
// EBADMSG: these are no such message, or too many bytes.
Result<std::size_t> size_of_message(std::string_view fixed_header);
Result<Message> parse_message(std::string_view bytes);

}  // namespace fastdock::dbus
