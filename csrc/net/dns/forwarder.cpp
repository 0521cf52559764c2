#include "net/dns/forwarder.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace fastdock::net::dns {

struct Forwarder::Exchange {
  Message query;                     // with our id
  std::array<std::uint8_t, 2> id{};  // the asker's
  std::vector<IpAddress> upstreams;
  std::size_t next = 0;
  bool tcp = false;
  Done done;
  Fd socket;
  Loop::Timer timer = 0;
  Message outgoing, incoming;  // TCP, with the length in front
};

namespace {

constexpr std::chrono::milliseconds kPatience{2000};
constexpr std::uint16_t kPort = 53;

Fd connect_to(const IpAddress& server, bool tcp) {
  Fd opened(::socket(server.family, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!opened) return opened;
  sockaddr_storage address{};
  socklen_t size = 0;
  if (server.family == AF_INET6) {
    auto* target = reinterpret_cast<sockaddr_in6*>(&address);
    *target = {.sin6_family = AF_INET6,
               .sin6_port = htons(kPort),
               .sin6_flowinfo = 0,
               .sin6_addr = {},
               .sin6_scope_id = 0};
    std::memcpy(&target->sin6_addr, server.octets.data(), 16);
    size = sizeof *target;
  } else {
    auto* target = reinterpret_cast<sockaddr_in*>(&address);
    target->sin_family = AF_INET;
    target->sin_port = htons(kPort);
    std::memcpy(&target->sin_addr, server.octets.data(), 4);
    size = sizeof *target;
  }
  if (::connect(opened.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 && errno != EINPROGRESS)
    opened.reset();
  return opened;
}

}  // namespace

Forwarder::~Forwarder() = default;

void Forwarder::ask(Message query, std::vector<IpAddress> upstreams, bool tcp, Done done) {
  auto exchange = std::make_shared<Exchange>();
  std::copy_n(query.begin(), 2, exchange->id.begin());
  exchange->query = std::move(query);
  exchange->upstreams = std::move(upstreams);
  exchange->tcp = tcp;
  exchange->done = std::move(done);
  exchanges_.insert(exchange);
  next_server(exchange);
}

void Forwarder::next_server(const std::shared_ptr<Exchange>& exchange) {
  leave_server(*exchange);
  while (exchange->next < exchange->upstreams.size()) {
    const IpAddress& server = exchange->upstreams[exchange->next++];
    if (::getrandom(exchange->query.data(), 2, 0) != 2) continue;
    exchange->socket = connect_to(server, exchange->tcp);
    if (!exchange->socket) continue;
    if (exchange->tcp) {
      std::size_t size = exchange->query.size();
      exchange->outgoing = {static_cast<std::uint8_t>(size >> 8), static_cast<std::uint8_t>(size)};
      exchange->outgoing.insert(exchange->outgoing.end(), exchange->query.begin(), exchange->query.end());
    } else if (::send(exchange->socket.get(), exchange->query.data(), exchange->query.size(), MSG_NOSIGNAL) <
               0) {
      continue;
    }
    auto watched = loop_.watch(exchange->socket.get(), exchange->tcp ? EPOLLOUT : EPOLLIN,
                               [this, exchange](std::uint32_t events) { ready(exchange, events); });
    if (!watched) continue;
    exchange->timer = loop_.after(kPatience, [this, exchange] { next_server(exchange); });
    return;
  }
  finish(exchange, std::nullopt);
}

bool Forwarder::send_by_tcp(Exchange& exchange) {
  ssize_t sent =
      ::send(exchange.socket.get(), exchange.outgoing.data(), exchange.outgoing.size(), MSG_NOSIGNAL);
  if (sent < 0) return errno == EAGAIN;
  exchange.outgoing.erase(exchange.outgoing.begin(), exchange.outgoing.begin() + sent);
  return true;
}

// A whole message that answers the question, if there is one.
std::optional<Message> Forwarder::receive(Exchange& exchange, bool& failed) {
  std::array<std::uint8_t, 65536> buffer;
  ssize_t size = ::recv(exchange.socket.get(), buffer.data(), buffer.size(), 0);
  if (size < 0) {
    failed = errno != EAGAIN && errno != EINTR;
    return std::nullopt;
  }
  View received(buffer.data(), static_cast<std::size_t>(size));
  if (exchange.tcp) {
    failed = size == 0;
    exchange.incoming.insert(exchange.incoming.end(), received.begin(), received.end());
    if (exchange.incoming.size() < 2) return std::nullopt;
    std::size_t length = static_cast<std::size_t>(exchange.incoming[0]) << 8 | exchange.incoming[1];
    if (exchange.incoming.size() < length + 2) return std::nullopt;
    received = View(exchange.incoming).subspan(2, length);
    failed = true;  // a whole message that does not answer is the end of this server
  }
  // By UDP, whatever does not match is somebody's guess: go on waiting.
  if (!answers(received, exchange.query)) return std::nullopt;
  return Message(received.begin(), received.end());
}

void Forwarder::ready(const std::shared_ptr<Exchange>& exchange, std::uint32_t events) {
  if (exchange->tcp && !exchange->outgoing.empty()) {
    if ((events & EPOLLERR) || !send_by_tcp(*exchange)) return next_server(exchange);
    if (exchange->outgoing.empty()) {
      auto watched = loop_.watch(exchange->socket.get(), EPOLLIN,
                                 [this, exchange](std::uint32_t later) { ready(exchange, later); });
      if (!watched) next_server(exchange);
    }
    return;
  }
  bool failed = false;
  auto response = receive(*exchange, failed);
  if (response) return finish(exchange, std::move(response));
  if (failed) next_server(exchange);
}

void Forwarder::leave_server(Exchange& exchange) {
  loop_.cancel(exchange.timer);
  if (exchange.socket) loop_.forget(exchange.socket.get());
  exchange.socket.reset();
  exchange.incoming.clear();
}

void Forwarder::finish(const std::shared_ptr<Exchange>& exchange, std::optional<Message> response) {
  // The last reference may be in the set.
  auto kept = exchange;  // NOLINT(performance-unnecessary-copy-initialization)
  leave_server(*kept);
  exchanges_.erase(kept);
  if (response) std::ranges::copy(kept->id, response->begin());
  kept->done(std::move(response));
}

}  // namespace fastdock::net::dns
