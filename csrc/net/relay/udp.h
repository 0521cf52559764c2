// Datagrams to a port of the host, passed on to a container: a socket for each sender.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "base/fd.h"
#include "net/dns/loop.h"
#include "net/relay/tcp.h"

namespace fastdock::net::relay {

class UdpRelay {
 public:
  // Where datagrams of this sender to this address of the host (`local`, as control data) go; none: nowhere.
  using Aim = std::function<std::optional<Address>(const Address& sender, const std::string& local)>;
  UdpRelay(dns::Loop& loop, Fd socket, Aim aim);
  ~UdpRelay();
  UdpRelay(const UdpRelay&) = delete;
  UdpRelay& operator=(const UdpRelay&) = delete;

  // When the loop has been opened, also again.
  Result<void> watch();
  void forget_sessions();

 private:
  using Clock = std::chrono::steady_clock;
  struct Session {
    Fd socket;
    Address sender;
    std::string local;  // control data that makes an answer come from the address that was asked
    Address target;
    Clock::time_point used, aimed;
  };
  void receive();
  void answer(const std::string& key);
  Session* session_for(const Address& sender, const std::string& local);
  bool is_current(Session& session) const;
  void drop(const std::string& key);
  void sweep();

  dns::Loop& loop_;
  Fd socket_;
  Aim aim_;
  std::map<std::string, Session> sessions_;
  dns::Loop::Timer timer_ = 0;
};

}  // namespace fastdock::net::relay
