#include "rootless/holder/forwards.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <future>
#include <sstream>

#include "base/loopback.h"
#include "base/path.h"

namespace fastdock::rootless {
bool read_address(const std::string& host, const std::string& port, Address& address) {
  std::uint16_t number = 0;
  auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (error != std::errc{} || end != port.data() + port.size() || number == 0) return false;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&address.bytes);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.bytes);
  if (::inet_pton(AF_INET, host == "*" ? "0.0.0.0" : host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(number);
    address.size = sizeof *v4;
    return true;
  }
  if (::inet_pton(AF_INET6, host == "*6" ? "::" : host.c_str(), &v6->sin6_addr) != 1) return false;
  v6->sin6_family = AF_INET6;
  v6->sin6_port = htons(number);
  address.size = sizeof *v6;
  return true;
}

Result<Fd> bind_place(const std::string& place) {
  std::istringstream words(place);
  std::string protocol;
  std::string host;
  std::string port;
  Address address;
  if (!(words >> protocol >> host >> port) || !read_address(host, port, address))
    return failed_with(EINVAL, Operation::kParse, place);
  bool tcp = protocol == "tcp";
  if (!tcp && protocol != "udp") return failed_with(EPROTONOSUPPORT, Operation::kUseRootless, place);
  int type = (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC;
  Fd socket(::socket(address.bytes.ss_family, type, 0));
  if (!socket) return failed(Operation::kUseRootless, place);
  int on = 1;
  if (address.bytes.ss_family == AF_INET6)
    ::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  if (tcp) ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(socket.get(), address.get(), address.size) != 0 ||
      (tcp && ::listen(socket.get(), SOMAXCONN) != 0))
    return failed(Operation::kUseRootless, place);
  return socket;
}

// --- the thread in the namespace ---

Result<std::unique_ptr<Relay>> Relay::start(Fd net) {
  std::unique_ptr<Relay> relay(new Relay);
  relay->wake_.reset(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!relay->wake_) return failed(Operation::kCreatePipe);
  std::promise<Result<void>> answer;
  auto ready = answer.get_future();
  std::thread([&answer, own = relay.get(), net = std::move(net)]() mutable {
    own->run(std::move(net), [&answer](Result<void> result) { answer.set_value(std::move(result)); });
  }).detach();
  FASTDOCK_CHECK(ready.get());
  return relay;
}

Result<void> Relay::enter(Fd net) {
  if (net && ::setns(net.get(), CLONE_NEWNET) != 0) return failed(Operation::kJoinNamespace, "net");
  if (!net && ::unshare(CLONE_NEWNET) != 0)
    return failed(Operation::kCreateNamespace, "net", Hint::kNamespaceForbidden);
  FASTDOCK_CHECK(raise_loopback());
  FASTDOCK_TRY(net_, open_file("/proc/thread-self/ns/net", O_RDONLY));
  thread_id_ = static_cast<int>(::syscall(SYS_gettid));
  FASTDOCK_CHECK(loop_.open());
  return loop_.watch(wake_.get(), EPOLLIN, [this](std::uint32_t) { perform(); });
}

void Relay::run(Fd net, const std::function<void(Result<void>)>& ready) {
  auto entered = enter(std::move(net));
  bool good = entered.has_value();
  ready(std::move(entered));
  while (good && loop_.turn()) {
  }
}

void Relay::post(std::function<void()> task) {
  {
    std::scoped_lock lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  std::uint64_t one = 1;
  (void)!::write(wake_.get(), &one, sizeof one);
}

void Relay::perform() {
  std::uint64_t count = 0;
  (void)!::read(wake_.get(), &count, sizeof count);
  std::vector<std::function<void()>> tasks;
  {
    std::scoped_lock lock(mutex_);
    tasks.swap(tasks_);
  }
  for (const auto& task : tasks) task();
}

void Relay::add(int number, bool tcp, Fd socket, const Address& target) {
  auto shared = std::make_shared<Fd>(std::move(socket));
  post([this, number, tcp, shared, target] {
    if (!tcp) {
      auto aim = [this, number](const Address&, const std::string&) {
        return std::optional(listeners_[number].target);
      };
      auto udp = std::make_unique<UdpRelay>(loop_, std::move(*shared), aim);
      (void)udp->watch();
      listeners_[number] = {Fd(), target, std::move(udp)};
      return;
    }
    listeners_[number] = {std::move(*shared), target, nullptr};
    listen(number);
  });
}

void Relay::aim(int number, const Address& target) {
  post([this, number, target] {
    Listener& listener = listeners_[number];
    listener.target = target;
    if (listener.udp) listener.udp->forget_sessions();
  });
}

void Relay::remove(int number) {
  post([this, number] {
    auto gone = listeners_.extract(number);
    if (gone && gone.mapped().socket) loop_.forget(gone.mapped().socket.get());
  });
}

void Relay::listen(int number) {
  auto found = listeners_.find(number);
  if (found == listeners_.end()) return;
  (void)loop_.watch(found->second.socket.get(), EPOLLIN, [this, number](std::uint32_t) { accept(number); });
}

void Relay::accept(int number) {
  Listener& listener = listeners_[number];
  Fd client(::accept4(listener.socket.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!client) {
    if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM) return;
    // No descriptors left: who waits there waits until others have gone.
    loop_.forget(listener.socket.get());
    loop_.after(std::chrono::milliseconds(100), [this, number] { listen(number); });
    return;
  }
  auto made = std::make_unique<TcpConnection>(loop_, std::move(client));
  TcpConnection* connection = made.get();
  // Deleted outside of its own callback.
  auto done = [this, connection] { post([this, connection] { connections_.erase(connection); }); };
  if (connection->open(listener.target, done)) connections_[connection] = std::move(made);
}

// --- the main thread ---

int Forwards::take(const std::string& scope, const std::string& place) {
  Scope& own = scopes_[scope];
  // The root's own database says who has it there; what starts anew has its ports all the while.
  if (own.taken.contains(place) || own.forwards.contains(place)) return 0;
  auto socket = bind_place(place);
  if (!socket) return socket.error().number;
  own.taken[place] = std::move(*socket);
  return 0;
}

int Forwards::set(const std::string& scope, const std::map<std::string, Address>& wanted,
                  std::string& failed_place) {
  Scope& own = scopes_[scope];
  for (auto at = own.forwards.begin(); at != own.forwards.end();) {
    if (wanted.contains(at->first)) {
      ++at;
      continue;
    }
    relay_.remove(at->second.number);
    at = own.forwards.erase(at);
  }
  int problem = 0;
  for (const auto& [place, target] : wanted) {
    if (auto found = own.forwards.find(place); found != own.forwards.end()) {
      if (found->second.target != target) relay_.aim(found->second.number, target);
      found->second.target = target;
      continue;
    }
    auto taken = own.taken.extract(place);
    auto socket = taken ? Result<Fd>(std::move(taken.mapped())) : bind_place(place);
    if (!socket) {
      if (problem == 0) failed_place = place;
      if (problem == 0) problem = socket.error().number;
      continue;
    }
    own.forwards[place] = {next_, target};
    relay_.add(next_++, place.starts_with("tcp "), std::move(*socket), target);
  }
  own.taken.clear();
  return problem;
}

}  // namespace fastdock::rootless
