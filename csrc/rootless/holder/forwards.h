// The published ports: sockets of the host's network, whose bytes go on inside the network namespace.
//
// Two threads, because a socket belongs to the network namespace of the thread that makes it: the main one
// stays in the host's and binds; the relay's is in the namespace of the containers, and connects.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "net/relay/tcp.h"
#include "net/relay/udp.h"

namespace fastdock::rootless {

using net::relay::Address;
using net::relay::TcpConnection;
using net::relay::UdpRelay;

// The thread in the network namespace.
class Relay {
 public:
  // `net`: a namespace to join; empty: a new one.
  static Result<std::unique_ptr<Relay>> start(Fd net);

  [[nodiscard]] int namespace_descriptor() const { return net_.get(); }
  [[nodiscard]] int thread() const { return thread_id_; }

  // Serves the bound socket until remove(number).
  void add(int number, bool tcp, Fd socket, const Address& target);
  void aim(int number, const Address& target);
  void remove(int number);

 private:
  struct Listener {
    Fd socket;
    Address target;
    std::unique_ptr<UdpRelay> udp;
  };
  Relay() = default;
  void run(Fd net, const std::function<void(Result<void>)>& ready);
  Result<void> enter(Fd net);
  void post(std::function<void()> task);
  void perform();
  void listen(int number);
  void accept(int number);

  net::dns::Loop loop_;
  Fd net_, wake_;
  int thread_id_ = 0;
  std::mutex mutex_;
  std::vector<std::function<void()>> tasks_;
  std::map<int, Listener> listeners_;
  std::map<TcpConnection*, std::unique_ptr<TcpConnection>> connections_;
};

class Forwards {
 public:
  explicit Forwards(Relay& relay) : relay_(relay) {}

  // Binds "PROTOCOL HOST PORT" for the scope; set() makes it a forward, or gives it back.  0 or an errno.
  int take(const std::string& scope, const std::string& place);
  // All forwards of the scope: "PROTOCOL HOST PORT" -> target.  0, or the errno of the first that failed.
  int set(const std::string& scope, const std::map<std::string, Address>& wanted, std::string& failed_place);
  [[nodiscard]] bool knows(const std::string& scope) const { return scopes_.contains(scope); }

 private:
  struct Forward {
    int number;
    Address target;
  };
  struct Scope {
    std::map<std::string, Forward> forwards;
    std::map<std::string, Fd> taken;
  };
  Relay& relay_;
  std::map<std::string, Scope> scopes_;
  int next_ = 1;
};

// "tcp * 8080" -> a bound (and listening) socket.  Its errno is the kernel's own reason.
Result<Fd> bind_place(const std::string& place);
// An address and a port as text.
bool read_address(const std::string& host, const std::string& port, Address& address);

}  // namespace fastdock::rootless
