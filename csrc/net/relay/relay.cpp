#include "net/relay/relay.h"

#include <netinet/in.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "net/daemon.h"
#include "net/relay/conntrack.h"

namespace fastdock::net::relay {
namespace {

// IP6T_SO_ORIGINAL_DST (linux/netfilter_ipv6/ip6_tables.h, which goes with no other header of addresses).
constexpr int kOriginalDestination = 80;
constexpr std::chrono::milliseconds kPause{100};
constexpr int kTries = 64;
constexpr int kAtOnce = 16;  // new connections, before others have their turn

Place place_of(const sockaddr_in6& address) {
  Place place;
  place.address.family = AF_INET6;
  std::memcpy(place.address.octets.data(), &address.sin6_addr, sizeof address.sin6_addr);
  place.port = ntohs(address.sin6_port);
  return place;
}

Place place_of_socket(const Fd& socket) {
  sockaddr_in6 address{};
  socklen_t size = sizeof address;
  (void)::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size);
  return place_of(address);
}

Address socket_address(const PublishedTarget& target) {
  Address address;
  if (target.container.family == AF_INET6) {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.bytes);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(target.port);
    std::memcpy(&v6->sin6_addr, target.container.octets.data(), sizeof v6->sin6_addr);
    address.size = sizeof *v6;
  } else {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&address.bytes);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(target.port);
    std::memcpy(&v4->sin_addr, target.container.octets.data(), sizeof v4->sin_addr);
    address.size = sizeof *v4;
  }
  return address;
}

Result<Fd> open_socket(int type, std::uint16_t port) {
  Fd opened(::socket(AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!opened) return failed(Operation::kOpenRelay);
  int on = 1;
  ::setsockopt(opened.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  sockaddr_in6 everywhere{};
  everywhere.sin6_family = AF_INET6;
  everywhere.sin6_port = htons(port);
  if (::bind(opened.get(), reinterpret_cast<sockaddr*>(&everywhere), sizeof everywhere) != 0 ||
      (type == SOCK_STREAM && ::listen(opened.get(), SOMAXCONN) != 0))
    return failed(Operation::kOpenRelay);
  return opened;
}

std::optional<Address> container_for(const Scope& scope, std::uint8_t protocol, const Place& asked) {
  auto target = relay_target(scope, protocol, asked.address, asked.port);
  if (!target || !*target) return std::nullopt;
  return socket_address(**target);
}

void reset(const Fd& client) {
  linger at_once{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(client.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

}  // namespace

Result<Listeners> open_listeners() {
  Listeners made;
  Result<void> taken;
  for (int i = 0; i < kTries; ++i) {  // until a port is free for both
    FASTDOCK_TRY(made.tcp, open_socket(SOCK_STREAM, 0));
    made.port = place_of_socket(made.tcp).port;
    auto udp = open_socket(SOCK_DGRAM, made.port);
    if (udp) {
      made.udp = std::move(*udp);
      return made;
    }
    taken = std::unexpected(udp.error());
  }
  return std::unexpected(taken.error());
}

Relay::Relay(Scope scope, Fd control, Listeners listeners, std::size_t most_connections,
             std::chrono::seconds idle)
    : scope_(std::move(scope)),
      control_(std::move(control)),
      listener_(std::move(listeners.tcp)),
      port_(listeners.port),
      most_connections_(most_connections),
      idle_(idle),
      udp_(loop_, std::move(listeners.udp),
           [this](const Address& sender, const std::string& local) { return udp_target(sender, local); }) {}

Result<void> Relay::run() {
  bool new_here = true;
  do {
    if (new_here) FASTDOCK_CHECK(watch());
    new_here = false;
    finished_.clear();  // not in their own callbacks
    if (copy_missing_) {
      FASTDOCK_TRY(new_here, make_copy());
    }
  } while (new_here || loop_.turn());
  end_copy();
  return {};
}

Result<void> Relay::watch() {
  FASTDOCK_CHECK(loop_.open());
  (void)::listen(control_.get(), kBacklog);  // so that SO_PEERCRED names this process
  FASTDOCK_CHECK(loop_.watch(control_.get(), EPOLLIN, [this](std::uint32_t) { answer_control(); }));
  FASTDOCK_CHECK(udp_.watch());
  listen();
  wait_for_idleness();
  return {};
}

// True in the copy, when it has become the relay.
Result<bool> Relay::make_copy() {
  copy_missing_ = false;
  Fd self(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
  if (!self) return failed(Operation::kWaitForProcess, "fastdock-relay");
  FASTDOCK_TRY(Fd copy, make_copy_of_self("fastdock-relay"));
  if (copy) {
    copy_ = std::move(copy);
    FASTDOCK_CHECK(loop_.watch(copy_.get(), EPOLLIN, [this](std::uint32_t) {
      end_copy();
      copy_missing_ = true;
    }));
    return false;
  }
  // What is under way is the relay's: it must end when that ends.  The epoll first, which is shared.
  FASTDOCK_CHECK(loop_.open());
  copy_.reset();
  connections_.clear();
  udp_.forget_sessions();
  netfilter_.reset();
  wait_for_end_of(self);
  copy_missing_ = true;
  return true;
}

void Relay::end_copy() {
  if (!copy_) return;
  loop_.forget(copy_.get());
  ::syscall(SYS_pidfd_send_signal, copy_.get(), SIGKILL, nullptr, 0);
  copy_.reset();
}

void Relay::answer_control() {
  Fd asking(::accept4(control_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!asking) return;
  std::string port = std::to_string(port_);
  ::send(asking.get(), port.data(), port.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  idle_rounds_ = 0;  // whoever asks is about to publish something
}

void Relay::wait_for_idleness() {
  loop_.cancel(idle_timer_);
  idle_timer_ = loop_.after(idle_, [this] {
    auto needed = is_relay_needed(scope_);
    bool idle = connections_.empty() && needed && !*needed;
    idle_rounds_ = idle ? idle_rounds_ + 1 : 0;
    if (idle_rounds_ > 1) return loop_.stop();
    wait_for_idleness();
  });
}

void Relay::listen() {
  (void)loop_.watch(listener_.get(), EPOLLIN, [this](std::uint32_t) { accept(); });
}

void Relay::accept() {
  for (int i = 0; i < kAtOnce; ++i) {
    Fd client;
    if (connections_.size() < most_connections_)
      client.reset(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    else
      errno = EMFILE;
    if (!client) {
      if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM) return;
      // As many as may be: who waits there waits until others have gone.
      loop_.forget(listener_.get());
      loop_.after(kPause, [this] { listen(); });
      return;
    }
    auto target = tcp_target(client);
    if (!target) {
      reset(client);
      continue;
    }
    auto made = std::make_unique<TcpConnection>(loop_, std::move(client));
    TcpConnection* connection = made.get();
    if (connection->open(*target, [this, connection] { finish(connection); }))
      connections_[connection] = std::move(made);
  }
}

// Where it wanted to go: without a translation that is where it arrived, our own port.
std::optional<Address> Relay::tcp_target(const Fd& client) const {
  sockaddr_in6 address{};
  socklen_t size = sizeof address;
  if (::getsockopt(client.get(), IPPROTO_IPV6, kOriginalDestination, &address, &size) != 0)
    return std::nullopt;
  return container_for(scope_, IPPROTO_TCP, place_of(address));
}

std::optional<Address> Relay::udp_target(const Address& sender, const std::string& local) {
  if (local.size() < CMSG_LEN(sizeof(in6_pktinfo))) return std::nullopt;
  in6_pktinfo info{};
  std::memcpy(&info, local.data() + CMSG_LEN(0), sizeof info);
  sockaddr_in6 arrived{};
  arrived.sin6_addr = info.ipi6_addr;
  arrived.sin6_port = htons(port_);
  Place here = place_of(arrived);
  sockaddr_in6 from{};
  std::memcpy(&from, &sender.bytes, sizeof from);
  if (!netfilter_) {
    auto opened = NetlinkSocket::open(NETLINK_NETFILTER);
    if (!opened) return std::nullopt;
    netfilter_ = std::move(*opened);
  }
  auto port = original_udp_port(*netfilter_, place_of(from), here);
  if (!port) netfilter_->discard_answers();
  if (!port || !*port) return std::nullopt;
  here.port = **port;
  return container_for(scope_, IPPROTO_UDP, here);
}

void Relay::finish(TcpConnection* connection) {
  auto found = connections_.extract(connection);
  if (found) finished_.push_back(std::move(found.mapped()));
}

}  // namespace fastdock::net::relay
