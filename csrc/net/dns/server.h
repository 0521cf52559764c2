// The resolver: answers containers on their own sockets, and takes orders on a UNIX socket.
#pragma once

#include <sys/socket.h>

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "net/daemon.h"
#include "net/dns/forwarder.h"
#include "net/dns/loop.h"
#include "net/dns/message.h"
#include "net/dns/registry.h"
#include "net/firewall.h"

namespace fastdock::net::dns {

// It keeps a copy of itself: a process forked from it after each change of what it knows, which holds the
// same sockets and sleeps.  When the server dies (kill -9, the OOM killer), the copy goes on in its place:
// with another process's sockets, so no container notices.  When the copy dies, the server makes another.
class Server {
 public:
  // `control` listens (SOCK_SEQPACKET); requests from users other than root and `owner` are refused.  Ends
  // when it has had no container for `idle`.
  Server(Scope scope, Fd control, uid_t owner, std::chrono::seconds idle);
  Result<void> run();

 private:
  using Reply = std::function<void(const Message&)>;
  struct Ports {
    Fd udp, tcp, process;
    std::size_t forwarded = 0;    // questions on their way
    std::size_t connections = 0;  // TCP
  };
  struct Connection;

  void accept_control();
  std::string obey(int connection);
  std::string add(std::string_view record, std::vector<Fd> descriptors);
  Result<void> open_ports(const std::string& id, std::vector<Fd> descriptors);
  void remove(const std::string& id);
  void watch_idle();
  Result<void> watch_all();
  Result<void> watch_ports(const std::string& id, const Ports& ports);
  // Makes the copy anew.  True in the copy, when it has become the server.
  Result<bool> renew_copy();
  void end_copy();
  void wait_for_death_of(const Fd& server);

  void receive_udp(const std::string& id);
  void accept_tcp(const std::string& id);
  void receive_tcp(const std::shared_ptr<Connection>& connection);
  void close_tcp(const std::shared_ptr<Connection>& connection);

  void answer(const std::string& id, View query, bool tcp, const Reply& reply);
  bool answer_from_registry(const Container& asker, View query, const Question& question, std::size_t limit,
                            const Reply& reply);
  void forward(const Container& asker, View query, const Question& question, bool tcp, const Reply& reply);
  void open_firewall(const Container& asker, View response);

  Scope scope_;
  Fd control_;
  uid_t owner_;
  std::chrono::seconds idle_;
  Loop loop_;
  Forwarder forwarder_{loop_};
  Registry registry_;
  std::unordered_map<std::string, std::shared_ptr<Ports>> ports_;
  Loop::Timer idle_timer_ = 0;
  Fd copy_process_;
  Fd succession_;        // an eventfd of this server and its copies
  bool changed_ = true;  // since the copy was made
  std::size_t turn_ = 0;
};

}  // namespace fastdock::net::dns
