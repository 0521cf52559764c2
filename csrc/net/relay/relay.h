// What docker-proxy is to Docker, in one process for an engine root: it passes on what the kernel cannot
// translate (ruleset.cpp, add_relay_rules()).
//
// It knows nothing of containers.  The firewall sends it connections to published ports; for each it asks the
// kernel for the original destination, and the firewall's maps for the container.  So a container's start
// tells it nothing, and it loses nothing when it dies.  Who connects to its own port has no original
// destination that is published, and is refused.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "net/dns/loop.h"
#include "net/firewall.h"
#include "net/relay/tcp.h"
#include "net/relay/udp.h"

namespace fastdock::net::relay {

struct Listeners {
  Fd tcp, udp;
  std::uint16_t port = 0;
};

// On every IPv6 address, at a port that the kernel picks.
Result<Listeners> open_listeners();

class Relay {
 public:
  // `control` tells everybody who connects the port, in a line of text.  It looks every `idle` whether
  // anything is published on an IPv6 address, and ends when twice nothing was and nobody has connected there
  // in between: a container that restarts has no ports for as long as its monitor waits, and that starts
  // nothing.
  Relay(Scope scope, Fd control, Listeners listeners, std::size_t most_connections,
        std::chrono::seconds idle);
  // It keeps a copy of itself, which sleeps and has the same sockets, and goes on in its place when it is
  // killed.  Connections that it has passed on end with it.
  Result<void> run();

 private:
  Result<void> watch();
  Result<bool> make_copy();
  void end_copy();
  void answer_control();
  void wait_for_idleness();
  void listen();
  void accept();
  [[nodiscard]] std::optional<Address> tcp_target(const Fd& client) const;
  std::optional<Address> udp_target(const Address& sender, const std::string& local);
  void finish(TcpConnection* connection);

  Scope scope_;
  Fd control_, listener_;
  std::uint16_t port_;
  std::size_t most_connections_;
  std::chrono::seconds idle_;
  dns::Loop loop_;
  UdpRelay udp_;
  std::optional<NetlinkSocket> netfilter_;
  dns::Loop::Timer idle_timer_ = 0;
  int idle_rounds_ = 0;
  Fd copy_;
  bool copy_missing_ = true;
  std::map<TcpConnection*, std::unique_ptr<TcpConnection>> connections_;
  std::vector<std::unique_ptr<TcpConnection>> finished_;
};

}  // namespace fastdock::net::relay
