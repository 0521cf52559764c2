#include "monitor/clients.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace fastdock::monitor {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPatience = std::chrono::seconds(1);
constexpr std::size_t kMaximumClients = 256;

// Only the user whom the container belongs to, and root.  unix(7), SO_PEERCRED.
bool may_connect(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  return peer.uid == 0 || peer.uid == ::geteuid();
}

}  // namespace

Result<void> send_packet(int socket, Packet kind, int value, std::string_view payload, int flags) {
  PacketHeader head{kind, value};
  iovec parts[2] = {{&head, sizeof head}, {const_cast<char*>(payload.data()), payload.size()}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = payload.empty() ? 1 : 2;
  while (::sendmsg(socket, &message, flags | MSG_NOSIGNAL) < 0)
    if (errno != EINTR) return failed(Operation::kWriteFile, "control socket");
  return {};
}

std::string failure_payload(const Error& error) {
  Failure failure{error.number, static_cast<std::uint16_t>(error.operation), static_cast<std::uint16_t>(error.hint)};
  std::string payload(reinterpret_cast<const char*>(&failure), sizeof failure);
  return payload + error.path;
}

Result<void> Clients::listen(int run_directory) {
  listener_ = Fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener_) return failed(Operation::kCreatePipe, "control socket");
  // By way of the descriptor: a path of any length fits the 108 bytes of sun_path.
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::string path = "/proc/self/fd/" + std::to_string(run_directory) + "/control";
  std::memcpy(static_cast<char*>(address.sun_path), path.c_str(), path.size() + 1);
  (void)::unlinkat(run_directory, "control", 0);
  mode_t before = ::umask(0177);
  int bound = ::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  ::umask(before);
  if (bound != 0 || ::listen(listener_.get(), 64) != 0) return failed(Operation::kCreateFile, "control socket");
  return {};
}

void Clients::adopt(Fd socket, int attached) {
  Client& client = clients_.emplace_back();
  client.socket = std::move(socket);
  client.attached = attached;
}

void Clients::add_to(std::vector<pollfd>& polls, bool input_full) const {
  polls.push_back({listener_.get(), POLLIN, 0});
  for (const Client& client : clients_) {
    bool writes = !client.blocked.empty() || client.lagging;
    bool reads = !input_full || (client.attached & kAttachInput) == 0;
    polls.push_back({client.socket.get(), static_cast<short>((reads ? POLLIN : 0) | (writes ? POLLOUT : 0)), 0});
  }
}

void Clients::handle(const pollfd* polls) {
  // In the order of add_to(); accept() appends, so it comes last.
  const pollfd* poll = polls + 1;
  for (Client& client : clients_) {
    short events = (poll++)->revents;
    bool lives = (events & POLLOUT) == 0 || drain(client);
    if (lives && (events & (POLLIN | POLLHUP | POLLERR)) != 0) lives = receive(client);
    if (!lives) client.socket.reset();
  }
  remove_dead();
  if ((polls->revents & POLLIN) != 0) accept();
}

void Clients::accept() {
  Fd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (socket && clients_.size() < kMaximumClients && may_connect(socket.get())) adopt(std::move(socket), 0);
}

bool Clients::receive(Client& client) {
  PacketHeader head;
  static char payload[kMaximumPayload];
  iovec parts[2] = {{&head, sizeof head}, {payload, sizeof payload}};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t count = ::recvmsg(client.socket.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (count < 0) return errno == EAGAIN || errno == EINTR;
  Fd descriptor;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part))
    if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(part), sizeof number);
      descriptor = Fd(number);
    }
  if (count < static_cast<ssize_t>(sizeof head) || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) return false;
  std::string_view rest(payload, static_cast<std::size_t>(count) - sizeof head);
  answer(client, requests_.handle(client, head, rest, std::move(descriptor)));
  return static_cast<bool>(client.socket);
}

void Clients::answer(Client& client, const Result<std::optional<int>>& result) {
  if (result && !*result) return;
  auto sent = result ? send_packet(client.socket.get(), Packet::kDone, **result, {}, MSG_DONTWAIT)
                     : send_packet(client.socket.get(), Packet::kFailed, 0, failure_payload(result.error()), MSG_DONTWAIT);
  if (!sent) client.socket.reset();
}

// False: the connection is dead.  What does not fit is kept in `blocked`.
bool Clients::send(Client& client, Packet kind, int value, std::string_view payload) {
  auto sent = send_packet(client.socket.get(), kind, value, payload, MSG_DONTWAIT);
  if (sent) return true;
  if (sent.error().number != EAGAIN) return false;
  PacketHeader head{kind, value};
  client.blocked.assign(reinterpret_cast<const char*>(&head), sizeof head);
  client.blocked.append(payload);
  client.blocked_since = Clock::now();
  return true;
}

bool Clients::drain(Client& client) {
  if (!client.blocked.empty()) {
    ssize_t sent = ::send(client.socket.get(), client.blocked.data(), client.blocked.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN || errno == EINTR;
    client.blocked = std::string();
  }
  if (!client.lagging) return true;
  auto sent = send_packet(client.socket.get(), Packet::kLost, static_cast<int>(std::min<std::uint64_t>(client.lost, INT32_MAX)),
                          {}, MSG_DONTWAIT);
  if (!sent) return sent.error().number == EAGAIN;
  client.lagging = false;
  client.lost = 0;
  return true;
}

bool Clients::blocked() const {
  return std::ranges::any_of(clients_, [](const Client& client) { return !client.blocked.empty() && !client.lagging; });
}

std::optional<Clock::time_point> Clients::patience_ends() const {
  std::optional<Clock::time_point> first;
  for (const Client& client : clients_)
    if (!client.blocked.empty() && !client.lagging && (!first || client.blocked_since + kPatience < *first))
      first = client.blocked_since + kPatience;
  return first;
}

void Clients::give_up_on_stalled() {
  for (Client& client : clients_)
    if (!client.blocked.empty() && !client.lagging && client.blocked_since + kPatience <= Clock::now())
      client.lagging = true;
}

void Clients::wait_for_slow() {
  while (auto limit = patience_ends()) {
    std::vector<pollfd> polls;
    for (Client& client : clients_)
      if (!client.blocked.empty() && !client.lagging) polls.push_back({client.socket.get(), POLLOUT, 0});
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(*limit - Clock::now()).count() + 1;
    (void)::poll(polls.data(), polls.size(), static_cast<int>(std::max<std::int64_t>(left, 0)));
    for (Client& client : clients_)
      if (!client.blocked.empty() && !drain(client)) client.socket.reset(), client.blocked.clear();
    remove_dead();
    give_up_on_stalled();
  }
}

void Clients::output(Stream stream, std::string_view bytes) {
  int bit = stream == Stream::kOutput ? kAttachOutput : kAttachErrors;
  int number = stream == Stream::kOutput ? 1 : 2;
  for (Client& client : clients_) {
    if ((client.attached & bit) == 0) continue;
    if (client.lagging || !client.blocked.empty()) {
      client.lagging = true;
      client.lost += bytes.size();
    } else if (!send(client, Packet::kOutput, number, bytes)) {
      client.socket.reset();
    }
  }
  remove_dead();
}

void Clients::exited(int code) {
  for (Client& client : clients_) {
    if (!client.waits && client.attached == 0) continue;
    client.waits = false;
    if (!client.blocked.empty() || !send_packet(client.socket.get(), Packet::kExited, code, {}, MSG_DONTWAIT))
      client.socket.reset();  // it sees the end of the connection, and reads the state
  }
  remove_dead();
}

void Clients::stopped() {
  for (Client& client : clients_)
    if (client.stops) (void)send_packet(client.socket.get(), Packet::kDone, 0, {}, MSG_DONTWAIT);
}

void Clients::remove_dead() {
  for (auto client = clients_.begin(); client != clients_.end();) {
    if (client->socket) {
      ++client;
      continue;
    }
    Client gone = std::move(*client);
    client = clients_.erase(client);
    requests_.left(gone);
  }
}

}  // namespace fastdock::monitor
