// A connection to a D-Bus daemon, or to a peer that speaks D-Bus without one.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/fd.h"
#include "dbus/message.h"

namespace fastdock::dbus {

using Deadline = std::chrono::steady_clock::time_point;

class Connection {
 public:
  // To a daemon at "unix:path=/run/dbus/system_bus_socket" (or a list of such addresses, with a ";"
  // between): it gives us a name.  EADDRNOTAVAIL: no address of a kind that we know.
  static Result<Connection> to_bus(std::string_view addresses, Deadline deadline);
  // To a peer's socket, such as systemd's own.
  static Result<Connection> to_peer(const std::string& socket_path, Deadline deadline);

  [[nodiscard]] bool through_daemon() const { return through_daemon_; }

  // Sends a call and waits for its answer: a kReturn or a kError.  Signals that come before it go to
  // `on_signal`.  ETIMEDOUT at the deadline.
  Result<Message> call(Message message, Deadline deadline);
  // The next message that is no answer.
  Result<Message> next(Deadline deadline);
  std::function<void(const Message&)> on_signal;

 private:
  Connection(Fd socket, bool through_daemon) : socket_(std::move(socket)), through_daemon_(through_daemon) {}
  static Result<Connection> connect(const std::string& name, bool abstract, bool through_daemon,
                                    Deadline deadline);
  Result<void> authenticate(Deadline deadline);
  Result<std::string> read_line(Deadline deadline);
  Result<void> send_all(std::string_view bytes, Deadline deadline);
  Result<void> fill(std::size_t count, Deadline deadline);
  Result<Message> receive(Deadline deadline);

  Fd socket_;
  bool through_daemon_;
  std::string received_;
  std::uint32_t serial_ = 0;
};

// The socket of one "unix:" address: its path, or its abstract name (`abstract`); empty where it is of
// another kind.
std::string socket_of_address(std::string_view address, bool& abstract);

}  // namespace fastdock::dbus
