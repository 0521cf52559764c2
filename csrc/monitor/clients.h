// The connections of a monitor's control socket: who is attached, who waits for what.
#pragma once

#include <poll.h>

#include <chrono>
#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "monitor/log.h"
#include "monitor/protocol.h"

namespace fastdock::monitor {

struct Client {
  Fd socket;
  int attached = 0;    // kAttach* bits
  bool waits = false;  // for the program's end
  bool stops = false;  // for the container's
  std::string blocked;  // a packet that it has not read yet
  std::chrono::steady_clock::time_point blocked_since;
  bool lagging = false;  // it did not read for a second: output is dropped until it does
  std::uint64_t lost = 0;
};

// What a client asks for.
class Requests {
 public:
  virtual ~Requests() = default;
  // The answer's kDone value; an error becomes kFailed.  nullopt: no answer, or a later one.
  virtual Result<std::optional<int>> handle(Client& client, const PacketHeader& header, std::string_view payload,
                                            Fd descriptor) = 0;
  virtual void left(const Client& client) = 0;
};

// A reader that is slow slows the program down, as a pipe would.  One that does not read at all for a second
// loses output instead: it never blocks the container.
class Clients {
 public:
  explicit Clients(Requests& requests) : requests_(requests) {}

  Result<void> listen(int run_directory);
  // A connection that exists already: the caller's who started the container.
  void adopt(Fd socket, int attached);

  // `input_full`: no more input is taken now.
  void add_to(std::vector<pollfd>& polls, bool input_full) const;
  // `polls`: what add_to() appended, after poll(2).
  void handle(const pollfd* polls);

  // True while output has to wait for a slow reader, at most until patience_ends().
  [[nodiscard]] bool blocked() const;
  [[nodiscard]] std::optional<std::chrono::steady_clock::time_point> patience_ends() const;
  void give_up_on_stalled();
  // Returns when nobody blocks any more; only for when there is nothing else to do.
  void wait_for_slow();

  void output(Stream stream, std::string_view bytes);
  void exited(int code);  // to those who wait, and those attached
  void stopped();         // to those who stop it

 private:
  void accept();
  bool receive(Client& client);  // false: it is gone
  bool drain(Client& client);
  static bool send(Client& client, Packet kind, int value, std::string_view payload);
  void answer(Client& client, const Result<std::optional<int>>& result);
  void remove_dead();

  Requests& requests_;
  Fd listener_;
  std::list<Client> clients_;
};

// One packet; with MSG_DONTWAIT in `flags` it may be EAGAIN.
Result<void> send_packet(int socket, Packet kind, int value, std::string_view payload, int flags = 0);
std::string failure_payload(const Error& error);

}  // namespace fastdock::monitor
