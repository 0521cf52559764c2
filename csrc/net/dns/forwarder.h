// Asking upstream servers.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <unordered_set>
#include <vector>

#include "net/dns/loop.h"
#include "net/dns/message.h"

namespace fastdock::net::dns {

// Each question has its own socket, hence its own random port, and a random id: what comes back must match
// both and repeat the question (RFC 5452).
class Forwarder {
 public:
  explicit Forwarder(Loop& loop) : loop_(loop) {}
  ~Forwarder();

  using Done = std::function<void(std::optional<Message> response)>;
  // Asks the servers in turn, two seconds each; `done` is called exactly once, with the asker's id restored,
  // or with nullopt when none answered.  By TCP if the asker came by TCP: that is how it gets what was too
  // long for UDP.
  void ask(Message query, std::vector<IpAddress> upstreams, bool tcp, Done done);
  // Drops all questions, unanswered.
  void forget_all() { exchanges_.clear(); }
  [[nodiscard]] std::size_t pending() const { return exchanges_.size(); }

 private:
  struct Exchange;
  void next_server(const std::shared_ptr<Exchange>& exchange);
  void ready(const std::shared_ptr<Exchange>& exchange, std::uint32_t events);
  bool send_by_tcp(Exchange& exchange);
  std::optional<Message> receive(Exchange& exchange, bool& failed);
  void leave_server(Exchange& exchange);
  void finish(const std::shared_ptr<Exchange>& exchange, std::optional<Message> response);

  Loop& loop_;
  std::unordered_set<std::shared_ptr<Exchange>> exchanges_;
};

}  // namespace fastdock::net::dns
