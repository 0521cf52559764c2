// One TCP connection of the host, passed on to a container, without copying (splice(2)).
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>
#include <functional>
#include <memory>

#include "base/fd.h"
#include "net/dns/loop.h"

namespace fastdock::net::relay {

struct Address {
  sockaddr_storage bytes{};
  socklen_t size = 0;
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&bytes); }
  friend bool operator==(const Address& a, const Address& b) {
    return a.size == b.size && std::memcmp(&a.bytes, &b.bytes, a.size) == 0;
  }
};

class TcpConnection {
 public:
  TcpConnection(dns::Loop& loop, Fd client) : loop_(loop), client_(std::move(client)) {}
  ~TcpConnection();
  TcpConnection(const TcpConnection&) = delete;
  TcpConnection& operator=(const TcpConnection&) = delete;

  // `done` is called once, when it is over; then it may be deleted.
  bool open(const Address& target, std::function<void()> done);

 private:
  struct Direction {
    int from = -1, to = -1;
    Fd pipe_out, pipe_in;
    std::size_t waiting = 0;  // bytes in the pipe
    bool ended = false;       // `from` has no more
    bool closed = false;      // and `to` was told
  };
  bool move(Direction& direction);
  void go_on();
  void finish_connecting();
  void watch();
  void watch(int socket, const Direction& reads, const Direction& writes);
  void give_up();
  void end();

  dns::Loop& loop_;
  Fd client_, server_;
  Direction up_, down_;
  bool over_ = false;
  std::function<void()> done_;
};

}  // namespace fastdock::net::relay
