#include "net/relay/relay.h"

#include <linux/sched.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "net/daemon.h"

namespace fastdock::net::relay {
namespace {

// IP6T_SO_ORIGINAL_DST (linux/netfilter_ipv6/ip6_tables.h, which goes with no other header of addresses).
constexpr int kOriginalDestination = 80;
constexpr std::chrono::milliseconds kPause{100};
constexpr int kAtOnce = 16;  // new connections, before others have their turn

// Where the client wanted to go.  Without a translation it is where it arrived.
bool original_destination(const Fd& client, IpAddress& host, std::uint16_t& port) {
  sockaddr_in6 address{};
  socklen_t size = sizeof address;
  if (::getsockopt(client.get(), IPPROTO_IPV6, kOriginalDestination, &address, &size) != 0) return false;
  host.family = AF_INET6;
  std::memcpy(host.octets.data(), &address.sin6_addr, sizeof address.sin6_addr);
  port = ntohs(address.sin6_port);
  return true;
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

void reset(const Fd& client) {
  linger at_once{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(client.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

}  // namespace

std::uint16_t port_of(const Fd& listener) {
  sockaddr_in6 address{};
  socklen_t size = sizeof address;
  if (::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  return ntohs(address.sin6_port);
}

Result<Fd> open_listener() {
  Fd opened(::socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!opened) return failed(Operation::kOpenRelay);
  int on = 1;
  ::setsockopt(opened.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  sockaddr_in6 everywhere{};
  everywhere.sin6_family = AF_INET6;
  if (::bind(opened.get(), reinterpret_cast<sockaddr*>(&everywhere), sizeof everywhere) != 0 ||
      ::listen(opened.get(), SOMAXCONN) != 0)
    return failed(Operation::kOpenRelay);
  return opened;
}

Relay::Relay(Scope scope, Fd control, Fd listener, std::size_t most_connections, std::chrono::seconds idle)
    : scope_(std::move(scope)),
      control_(std::move(control)),
      listener_(std::move(listener)),
      most_connections_(most_connections),
      idle_(idle) {}

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
  listen();
  wait_for_idleness();
  return {};
}

// True in the copy, when it has become the relay.
Result<bool> Relay::make_copy() {
  copy_missing_ = false;
  Fd self(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
  if (!self) return failed(Operation::kWaitForProcess, "fastdock-relay");
  int process = -1;
  clone_args arguments{};
  arguments.flags = CLONE_PIDFD;
  arguments.pidfd = reinterpret_cast<std::uintptr_t>(&process);
  arguments.exit_signal = SIGCHLD;
  long copy = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  if (copy < 0) return failed(Operation::kCloneProcess, "fastdock-relay");
  if (copy > 0) {
    copy_.reset(process);
    FASTDOCK_CHECK(loop_.watch(process, EPOLLIN, [this](std::uint32_t) {
      end_copy();
      copy_missing_ = true;
    }));
    return false;
  }
  // What is under way is the relay's: it must end when that ends.  The epoll first, which is shared.
  FASTDOCK_CHECK(loop_.open());
  copy_.reset();
  connections_.clear();
  pollfd death{.fd = self.get(), .events = POLLIN, .revents = 0};
  while (::poll(&death, 1, -1) < 0 && errno == EINTR) {
  }
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
  std::string port = std::to_string(port_of(listener_));
  ::send(asking.get(), port.data(), port.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  wait_for_idleness();  // whoever asks is about to publish something
}

void Relay::wait_for_idleness() {
  loop_.cancel(idle_timer_);
  idle_timer_ = loop_.after(idle_, [this] {
    auto needed = is_relay_needed(scope_);
    if (connections_.empty() && needed && !*needed) return loop_.stop();
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
    auto target = target_of(client);
    if (!target) {
      reset(client);
      continue;
    }
    auto made = std::make_unique<TcpConnection>(loop_, std::move(client));
    TcpConnection* connection = made.get();
    if (connection->open(socket_address(*target), [this, connection] { finish(connection); }))
      connections_[connection] = std::move(made);
  }
}

std::optional<PublishedTarget> Relay::target_of(const Fd& client) const {
  IpAddress host;
  std::uint16_t port = 0;
  if (!original_destination(client, host, port)) return std::nullopt;
  return relay_target(scope_, IPPROTO_TCP, host, port).value_or(std::nullopt);
}

void Relay::finish(TcpConnection* connection) {
  auto found = connections_.extract(connection);
  if (found) finished_.push_back(std::move(found.mapped()));
}

}  // namespace fastdock::net::relay
