#include "net/dns/server.h"

#include <netinet/in.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace fastdock::net::dns {
namespace {

constexpr std::uint32_t kTtl = 5;  // seconds; a name may be another container's soon
// What one container may occupy.
constexpr std::size_t kMostForwarded = 64, kMostConnections = 16;
constexpr std::size_t kMostForwardedOfAll = 1024;
constexpr std::chrono::milliseconds kConnectionPatience{10'000};
constexpr int kQuestionsPerTurn = 16;
constexpr std::size_t kLargestTcp = 65535;

bool may_be_opened(const IpAddress& address) {
  // A name under somebody else's control must not open the host itself, the cloud's metadata service or a
  // group.
  const auto& octets = address.octets;
  if (address.family == AF_INET)
    return octets[0] != 0 && octets[0] != 127 && octets[0] < 224 && !(octets[0] == 169 && octets[1] == 254);
  bool small = std::all_of(octets.begin(), octets.begin() + 10, [](std::uint8_t o) { return o == 0; });
  return !small && octets[0] != 0xff && !(octets[0] == 0xfe && (octets[1] & 0xc0) == 0x80);
}

}  // namespace

// One TCP connection of a container; it may send several questions.
struct Server::Connection {
  std::string id;
  std::shared_ptr<Ports> ports;
  Fd socket;
  Message incoming;
  Loop::Timer timer = 0;
};

Server::Server(Scope scope, Fd control, uid_t owner, std::chrono::seconds idle)
    : scope_(std::move(scope)), control_(std::move(control)), owner_(owner), idle_(idle) {}

Result<void> Server::run() {
  bool new_here = true;
  do {
    if (new_here) FASTDOCK_CHECK(watch_all());
    new_here = false;
    if (changed_) {
      FASTDOCK_TRY(new_here, renew_copy());
    }
  } while (new_here || loop_.turn());
  end_copy();
  return {};
}

Result<void> Server::watch_all() {
  FASTDOCK_CHECK(loop_.open());
  FASTDOCK_CHECK(loop_.watch(control_.get(), EPOLLIN, [this](std::uint32_t) { accept_control(); }));
  for (const auto& [id, ports] : ports_) FASTDOCK_CHECK(watch_ports(id, *ports));
  watch_idle();
  return {};
}

// The older copy goes when the newer is there, so that at every moment there is one.
Result<bool> Server::renew_copy() {
  changed_ = false;
  if (!succession_) succession_.reset(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
  Fd self(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
  if (!self || !succession_) return failed(Operation::kWaitForProcess, "fastdock-dns");
  FASTDOCK_TRY(Fd copy, make_copy_of_self("fastdock-dns"));
  if (!copy) {
    wait_for_death_of(self);
    return true;
  }
  end_copy();
  copy_process_ = std::move(copy);
  FASTDOCK_CHECK(loop_.watch(copy_process_.get(), EPOLLIN, [this](std::uint32_t) { changed_ = true; }));
  return false;
}

void Server::end_copy() {
  if (copy_process_) {
    loop_.forget(copy_process_.get());
    ::syscall(SYS_pidfd_send_signal, copy_process_.get(), SIGKILL, nullptr, 0);
  }
  copy_process_.reset();
}

// In the copy.  What is under way stays the server's: its connections must close when it closes them.
void Server::wait_for_death_of(const Fd& server) {
  copy_process_.reset();
  forwarder_.forget_all();
  (void)loop_.open();
  for (auto& [id, ports] : ports_) ports->forwarded = ports->connections = 0;
  wait_for_end_of(server);
  // Two copies may see it: whoever takes the event is the server now.
  std::uint64_t taken = 0;
  if (::read(succession_.get(), &taken, sizeof taken) != sizeof taken) ::_exit(0);
  succession_.reset();
  changed_ = true;
  (void)::listen(control_.get(), kBacklog);  // so that SO_PEERCRED names this process
}

void Server::watch_idle() {
  loop_.cancel(idle_timer_);
  idle_timer_ = 0;
  if (registry_.size() == 0) idle_timer_ = loop_.after(idle_, [this] { loop_.stop(); });
}

// --- orders ---

void Server::accept_control() {
  Fd connection(::accept4(control_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!connection) return;
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(connection.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 ||
      (peer.uid != 0 && peer.uid != owner_))
    return;
  // The engine sends its request right after connecting; one that does not is not waited for.
  timeval patience{.tv_sec = 1, .tv_usec = 0};
  ::setsockopt(connection.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  std::string answer = obey(connection.get());
  ::send(connection.get(), answer.data(), answer.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

std::string Server::obey(int connection) {
  std::string request(256 * 1024, '\0');
  iovec part{request.data(), request.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(3 * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t size = ::recvmsg(connection, &message, MSG_CMSG_CLOEXEC);
  std::vector<Fd> descriptors;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); size >= 0 && header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(header) + i * sizeof number, sizeof number);
      descriptors.emplace_back(number);
    }
  }
  if (size <= 0 || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) return "the request is too long";
  std::string_view text(request.data(), static_cast<std::size_t>(size));
  std::string_view verb = text.substr(0, text.find('\n'));
  text.remove_prefix(std::min(verb.size() + 1, text.size()));
  if (verb == "add") return add(text, std::move(descriptors));
  if (verb == "remove") {
    remove(std::string(text));
    return "ok";
  }
  if (verb == "list") {
    std::string list = "ok\n";
    for (const auto& [id, ports] : ports_) list += id + "\n";
    return list;
  }
  return "unknown request";
}

std::string Server::add(std::string_view record, std::vector<Fd> descriptors) {
  auto container = parse_record(record);
  if (!container) return describe(container.error());
  std::string id = container->id;
  if (descriptors.empty()) {
    if (!ports_.contains(id)) return "unknown container";
  } else {
    if (descriptors.size() < 2) return "sockets are missing";
    remove(id);
    if (auto opened = open_ports(id, std::move(descriptors)); !opened) {
      remove(id);
      return describe(opened.error());
    }
  }
  registry_.add(std::move(*container));
  changed_ = true;
  watch_idle();
  return "ok";
}

Result<void> Server::open_ports(const std::string& id, std::vector<Fd> descriptors) {
  auto ports = std::make_shared<Ports>();
  ports->udp = std::move(descriptors[0]);
  ports->tcp = std::move(descriptors[1]);
  if (descriptors.size() > 2) ports->process = std::move(descriptors[2]);
  ports_[id] = ports;
  return watch_ports(id, *ports);
}

Result<void> Server::watch_ports(const std::string& id, const Ports& ports) {
  FASTDOCK_CHECK(loop_.watch(ports.udp.get(), EPOLLIN, [this, id](std::uint32_t) { receive_udp(id); }));
  FASTDOCK_CHECK(loop_.watch(ports.tcp.get(), EPOLLIN, [this, id](std::uint32_t) { accept_tcp(id); }));
  if (!ports.process) return {};
  // A pidfd becomes readable when its process ends (pidfd_open(2)): the sockets must not keep the container's
  // network namespace alive.
  return loop_.watch(ports.process.get(), EPOLLIN, [this, id](std::uint32_t) { remove(id); });
}

void Server::remove(const std::string& id) {
  registry_.remove(id);
  changed_ = true;
  auto found = ports_.find(id);
  if (found != ports_.end()) {
    for (const Fd* descriptor : {&found->second->udp, &found->second->tcp, &found->second->process})
      if (*descriptor) loop_.forget(descriptor->get());
    found->second->udp.reset();
    found->second->tcp.reset();
    found->second->process.reset();
    ports_.erase(found);
  }
  watch_idle();
}

// --- questions ---

void Server::receive_udp(const std::string& id) {
  auto found = ports_.find(id);
  if (found == ports_.end()) return;
  auto ports = found->second;
  std::array<std::uint8_t, kLargestUdpSize> buffer;
  // A few at a time, so that a container that asks without end does not keep the others waiting.
  for (int turn = 0; turn < kQuestionsPerTurn && ports->udp; ++turn) {
    sockaddr_in from{};
    socklen_t size = sizeof from;
    ssize_t length = ::recvfrom(ports->udp.get(), buffer.data(), buffer.size(), MSG_DONTWAIT,
                                reinterpret_cast<sockaddr*>(&from), &size);
    if (length < 0) return;
    answer(id, View(buffer.data(), static_cast<std::size_t>(length)), false,
           [ports, from](const Message& response) {
             if (ports->udp)
               ::sendto(ports->udp.get(), response.data(), response.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
                        reinterpret_cast<const sockaddr*>(&from), sizeof from);
           });
  }
}

void Server::accept_tcp(const std::string& id) {
  auto found = ports_.find(id);
  if (found == ports_.end()) return;
  auto connection = std::make_shared<Connection>();
  connection->id = id;
  connection->ports = found->second;
  connection->socket.reset(
      ::accept4(found->second->tcp.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!connection->socket || found->second->connections >= kMostConnections) return;
  auto watched = loop_.watch(connection->socket.get(), EPOLLIN,
                             [this, connection](std::uint32_t) { receive_tcp(connection); });
  if (!watched) return;
  ++connection->ports->connections;
  connection->timer = loop_.after(kConnectionPatience, [this, connection] { close_tcp(connection); });
}

void Server::close_tcp(const std::shared_ptr<Connection>& connection) {
  // The last reference may be in the timer.
  auto kept = connection;  // NOLINT(performance-unnecessary-copy-initialization)
  if (!kept->socket) return;
  loop_.cancel(kept->timer);
  loop_.forget(kept->socket.get());
  kept->socket.reset();
  --kept->ports->connections;
}

void Server::receive_tcp(const std::shared_ptr<Connection>& connection) {
  std::array<std::uint8_t, 4096> buffer;
  ssize_t length = ::recv(connection->socket.get(), buffer.data(), buffer.size(), 0);
  if (length < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (length <= 0) return close_tcp(connection);
  auto& incoming = connection->incoming;
  incoming.insert(incoming.end(), buffer.begin(), buffer.begin() + length);
  while (incoming.size() >= 2) {
    std::size_t size = static_cast<std::size_t>(incoming[0]) << 8 | incoming[1];
    if (incoming.size() < size + 2) return;
    Message query(incoming.begin() + 2, incoming.begin() + 2 + static_cast<std::ptrdiff_t>(size));
    incoming.erase(incoming.begin(), incoming.begin() + 2 + static_cast<std::ptrdiff_t>(size));
    answer(connection->id, query, true, [connection](const Message& response) {
      if (!connection->socket) return;
      Message framed{static_cast<std::uint8_t>(response.size() >> 8),
                     static_cast<std::uint8_t>(response.size())};
      framed.insert(framed.end(), response.begin(), response.end());
      // A reader that does not read loses its answer: nothing is kept for it.
      ::send(connection->socket.get(), framed.data(), framed.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    });
    if (!connection->socket) return;
  }
}

void Server::answer(const std::string& id, View query, bool tcp, const Reply& reply) {
  const Container* asker = registry_.find(id);
  auto read = read_query(query);
  if (asker == nullptr || !read) return;
  if (!*read) return reply(make_refusal(query, read->error().code));
  const Question& question = **read;
  std::size_t limit = tcp ? kLargestTcp : question.udp_size;
  if (question.klass == kInternet && answer_from_registry(*asker, query, question, limit, reply)) return;
  bool allowed =
      asker->forwarding == Forwarding::kAll ||
      (asker->forwarding == Forwarding::kNames &&
       std::ranges::any_of(asker->allowed, [&](const auto& d) { return within(question.name, d); }));
  if (!allowed || asker->upstreams.empty())
    return reply(make_response(query, question, Code::kNoSuchName, {}, kTtl, limit));
  forward(*asker, query, question, tcp, reply);
}

bool Server::answer_from_registry(const Container& asker, View query, const Question& question,
                                  std::size_t limit, const Reply& reply) {
  std::vector<Answer> answers;
  if (question.type == kPtr) {
    auto address = address_of_pointer(question.name);
    std::string name = address ? registry_.by_address(asker, *address) : std::string();
    if (name.empty()) return false;
    answers.push_back({kPtr, name_data(name)});
  } else {
    auto found = registry_.by_name(asker, question.name, question.type == kAaaa ? AF_INET6 : AF_INET);
    if (!found.known) return false;
    // A known name is ours alone: without an address of this family the answer is empty, never from upstream.
    if (question.type == kA || question.type == kAaaa || question.type == kAny) {
      for (const auto& address : found.addresses)
        answers.push_back({address.family == AF_INET6 ? kAaaa : kA,
                           Message(address.octets.begin(),
                                   address.octets.begin() + static_cast<std::ptrdiff_t>(address.size()))});
    }
    if (!answers.empty())  // round robin for shared aliases
      std::ranges::rotate(answers, answers.begin() + static_cast<std::ptrdiff_t>(turn_++ % answers.size()));
  }
  reply(make_response(query, question, Code::kNoError, answers, kTtl, limit));
  return true;
}

void Server::forward(const Container& asker, View query, const Question& question, bool tcp,
                     const Reply& reply) {
  auto ports = ports_[asker.id];
  if (ports->forwarded >= kMostForwarded || forwarder_.pending() >= kMostForwardedOfAll)
    return reply(make_response(query, question, Code::kServerFailure, {}, kTtl, kPlainUdpSize));
  ++ports->forwarded;
  Message kept(query.begin(), query.end());
  forwarder_.ask(
      kept, asker.upstreams, tcp,
      [this, id = asker.id, ports, kept, question, reply](std::optional<Message> response) {
        --ports->forwarded;
        if (!response)
          return reply(make_response(kept, question, Code::kServerFailure, {}, kTtl, kPlainUdpSize));
        if (const Container* still = registry_.find(id)) open_firewall(*still, *response);
        reply(*response);
      });
}

// The addresses behind an allowed name may be reached for as long as the answer is good, and a while longer:
// programs connect late.  Before the answer is given, so that the first packet passes.
void Server::open_firewall(const Container& asker, View response) {
  if (asker.forwarding != Forwarding::kNames) return;
  for (const auto& found : addresses_in(response)) {
    if (!may_be_opened(found.address)) continue;
    std::uint32_t seconds = std::clamp<std::uint32_t>(found.ttl, 60, 3600) + 60;
    for (const auto& membership : asker.networks)
      for (const auto& source : membership.addresses)
        // Fails if the tables were flushed; then everything is open or the engine repairs it.
        (void)allow_destination(scope_, source, found.address, seconds);
  }
}

}  // namespace fastdock::net::dns
