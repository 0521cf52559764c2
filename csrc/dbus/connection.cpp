#include "dbus/connection.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>

namespace fastdock::dbus {
namespace {

std::unexpected<Error> protocol_error(std::string_view what) {
  return failed_with(EPROTO, Operation::kTalkToBus, what);
}

Result<void> wait_for(int socket, short events, Deadline deadline) {
  while (true) {
    auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return failed_with(ETIMEDOUT, Operation::kTalkToBus, "no answer");
    pollfd wanted{socket, events, 0};
    int ready = ::poll(&wanted, 1, static_cast<int>(std::min<std::int64_t>(left.count(), 60000)));
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return failed(Operation::kTalkToBus);
  }
}

// "Server Addresses": values are %-escaped.
std::string unescaped(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned code = 0;
    const char* digits = text.data() + i + 1;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(digits, digits + 2, code, 16).ptr == digits + 2) {
      plain += static_cast<char>(code);
      i += 2;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

}  // namespace

std::string socket_of_address(std::string_view address, bool& abstract) {
  abstract = false;
  if (!address.starts_with("unix:")) return "";
  address.remove_prefix(5);
  while (!address.empty()) {
    std::string_view pair = address.substr(0, address.find(','));
    address.remove_prefix(std::min(pair.size() + 1, address.size()));
    abstract = pair.starts_with("abstract=");
    if (abstract || pair.starts_with("path=")) return unescaped(pair.substr(pair.find('=') + 1));
  }
  return "";
}

Result<Connection> Connection::connect(const std::string& name, bool abstract, bool through_daemon,
                                       Deadline deadline) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::size_t offset = abstract ? 1 : 0;
  if (name.empty() || name.size() + 1 > sizeof address.sun_path)
    return failed_with(ENAMETOOLONG, Operation::kTalkToBus, name);
  std::memcpy(address.sun_path + offset, name.data(), name.size());
  auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size() + 1);
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return failed(Operation::kTalkToBus, name);
  // EAGAIN: the listener's queue is full; then it is busy indeed.
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0)
    return failed(Operation::kTalkToBus, name);
  Connection connection(std::move(socket), through_daemon);
  FASTDOCK_CHECK(connection.authenticate(deadline));
  if (!through_daemon) return connection;
  Message hello;
  hello.destination = "org.freedesktop.DBus";
  hello.path = "/org/freedesktop/DBus";
  hello.interface = "org.freedesktop.DBus";
  hello.member = "Hello";
  FASTDOCK_TRY(Message answer, connection.call(std::move(hello), deadline));
  if (answer.type == MessageType::kError) return protocol_error("the bus refuses us: " + answer.error_text());
  return connection;
}

Result<Connection> Connection::to_bus(std::string_view addresses, Deadline deadline) {
  Error error{EADDRNOTAVAIL, Operation::kTalkToBus, std::string(addresses), Hint::kNone};
  while (!addresses.empty()) {
    std::string_view address = addresses.substr(0, addresses.find(';'));
    addresses.remove_prefix(std::min(address.size() + 1, addresses.size()));
    bool abstract = false;
    std::string name = socket_of_address(address, abstract);
    if (name.empty()) continue;
    auto connection = connect(name, abstract, true, deadline);
    if (connection) return connection;
    error = std::move(connection.error());
  }
  return std::unexpected(std::move(error));
}

Result<Connection> Connection::to_peer(const std::string& socket_path, Deadline deadline) {
  return connect(socket_path, false, false, deadline);
}

// "Authentication Protocol": EXTERNAL, with the credentials that the socket itself tells.  They are not named
// (an empty identity), because in a user namespace ours are others than the daemon's view of us.
Result<void> Connection::authenticate(Deadline deadline) {
  FASTDOCK_CHECK(send_all(std::string_view("\0AUTH EXTERNAL\r\nDATA\r\n", 22), deadline));
  for (const char* wanted : {"DATA", "OK "}) {
    auto line = read_line(deadline);
    if (!line) return std::unexpected(std::move(line.error()));
    if (!line->starts_with(wanted)) return protocol_error("the bus refuses the authentication: " + *line);
  }
  return send_all("BEGIN\r\n", deadline);
}

Result<std::string> Connection::read_line(Deadline deadline) {
  constexpr std::size_t kLongestLine = 1024;
  std::size_t end = 0;
  while ((end = received_.find("\r\n")) == std::string::npos) {
    if (received_.size() > kLongestLine) return protocol_error("the authentication has no end");
    FASTDOCK_CHECK(fill(received_.size() + 1, deadline));
  }
  std::string line = received_.substr(0, end);
  received_.erase(0, end + 2);
  return line;
}

Result<void> Connection::send_all(std::string_view bytes, Deadline deadline) {
  while (!bytes.empty()) {
    ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno == EAGAIN) {
      FASTDOCK_CHECK(wait_for(socket_.get(), POLLOUT, deadline));
    } else if (errno != EINTR) {
      return failed(Operation::kTalkToBus);
    }
  }
  return {};
}

// Until there are at least `count` bytes.
Result<void> Connection::fill(std::size_t count, Deadline deadline) {
  std::array<char, 4096> buffer;
  while (received_.size() < count) {
    // Descriptors that somebody sends along are closed by the kernel: there is no room for them.
    ssize_t got = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (got > 0) {
      received_.append(buffer.data(), static_cast<std::size_t>(got));
    } else if (got == 0) {
      return failed_with(ECONNRESET, Operation::kTalkToBus, "the other side has closed the connection");
    } else if (errno == EAGAIN) {
      FASTDOCK_CHECK(wait_for(socket_.get(), POLLIN, deadline));
    } else if (errno != EINTR) {
      return failed(Operation::kTalkToBus);
    }
  }
  return {};
}

Result<Message> Connection::receive(Deadline deadline) {
  FASTDOCK_CHECK(fill(kFixedHeader, deadline));
  FASTDOCK_TRY(std::size_t size, size_of_message(received_));
  FASTDOCK_CHECK(fill(size, deadline));
  auto message = parse_message(std::string_view(received_).substr(0, size));
  received_.erase(0, size);
  return message;
}

Result<Message> Connection::call(Message message, Deadline deadline) {
  message.type = MessageType::kCall;
  message.serial = ++serial_;
  FASTDOCK_CHECK(send_all(to_bytes(message), deadline));
  while (true) {
    FASTDOCK_TRY(Message answer, receive(deadline));
    bool is_answer = answer.type == MessageType::kReturn || answer.type == MessageType::kError;
    if (is_answer && answer.reply_serial == message.serial) return answer;
    if (answer.type == MessageType::kSignal && on_signal) on_signal(answer);
  }
}

Result<Message> Connection::next(Deadline deadline) {
  while (true) {
    FASTDOCK_TRY(Message message, receive(deadline));
    if (message.type == MessageType::kSignal) return message;
  }
}

}  // namespace fastdock::dbus
