// Datagrams to a port of the host, passed on into the network namespace: a socket there for each sender.
#pragma once

#include <chrono>
#include <map>
#include <string>

#include "base/fd.h"
#include "net/dns/loop.h"
#include "net/relay/tcp.h"

namespace fastdock::rootless {

using net::relay::Address;

class UdpRelay {
 public:
  UdpRelay(net::dns::Loop& loop, Fd socket, const Address& target);
  ~UdpRelay();
  UdpRelay(const UdpRelay&) = delete;
  UdpRelay& operator=(const UdpRelay&) = delete;

  void aim(const Address& target);

 private:
  using Clock = std::chrono::steady_clock;
  struct Session {
    Fd socket;
    Address sender;
    std::string local;  // control data that makes an answer come from the address that was asked
    Clock::time_point used;
  };
  void receive();
  void answer(const std::string& key);
  Session* session_for(const Address& sender, const std::string& local);
  void drop(const std::string& key);
  void sweep();

  net::dns::Loop& loop_;
  Fd socket_;
  Address target_;
  std::map<std::string, Session> sessions_;
  net::dns::Loop::Timer timer_ = 0;
};

}  // namespace fastdock::rootless
