#include "net/relay/udp.h"

#include <netinet/in.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace fastdock::net::relay {
namespace {

constexpr std::size_t kMaximumSessions = 1024;
// As long as the kernel's connection tracking remembers a flow with answers
// (nf_conntrack_udp_timeout_stream).
constexpr std::chrono::seconds kIdle(120);
constexpr std::chrono::seconds kSweep(30);
constexpr std::chrono::seconds kTrust(1);  // until a session's target is looked up again
constexpr int kDatagramsAtOnce = 64;

using Datagram = std::array<char, 65536>;
using Control = std::array<char, 256>;

// The control message that says to which of our addresses a datagram came, for sendmsg(2) of the answer.
std::string reply_control(msghdr& header) {
  for (cmsghdr* each = CMSG_FIRSTHDR(&header); each != nullptr; each = CMSG_NXTHDR(&header, each)) {
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(in6_pktinfo))> made{};
    auto* reply = reinterpret_cast<cmsghdr*>(made.data());
    if (each->cmsg_level == IPPROTO_IP && each->cmsg_type == IP_PKTINFO) {
      in_pktinfo info{};
      std::memcpy(&info, CMSG_DATA(each), sizeof info);
      in_pktinfo from{};
      from.ipi_spec_dst = info.ipi_spec_dst;  // ip(7)
      *reply = {CMSG_LEN(sizeof from), IPPROTO_IP, IP_PKTINFO};
      std::memcpy(CMSG_DATA(reply), &from, sizeof from);
      return {made.data(), CMSG_SPACE(sizeof from)};
    }
    if (each->cmsg_level == IPPROTO_IPV6 && each->cmsg_type == IPV6_PKTINFO) {
      *reply = {CMSG_LEN(sizeof(in6_pktinfo)), IPPROTO_IPV6, IPV6_PKTINFO};
      std::memcpy(CMSG_DATA(reply), CMSG_DATA(each), sizeof(in6_pktinfo));
      return {made.data(), CMSG_SPACE(sizeof(in6_pktinfo))};
    }
  }
  return {};
}

}  // namespace

UdpRelay::UdpRelay(dns::Loop& loop, Fd socket, Aim aim)
    : loop_(loop), socket_(std::move(socket)), aim_(std::move(aim)) {
  int on = 1;
  ::setsockopt(socket_.get(), IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
  ::setsockopt(socket_.get(), IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
}

Result<void> UdpRelay::watch() {
  loop_.cancel(timer_);
  timer_ = loop_.after(kSweep, [this] { sweep(); });
  return loop_.watch(socket_.get(), EPOLLIN, [this](std::uint32_t) { receive(); });
}

UdpRelay::~UdpRelay() {
  loop_.cancel(timer_);
  loop_.forget(socket_.get());
  forget_sessions();
}

void UdpRelay::forget_sessions() {
  while (!sessions_.empty()) drop(sessions_.begin()->first);
}

// Whether it still leads where its datagrams are to go: the container may have ended, and its address be
// another's.
bool UdpRelay::is_current(Session& session) const {
  auto now = Clock::now();
  if (now < session.aimed + kTrust) return true;
  auto target = aim_(session.sender, session.local);
  session.aimed = now;
  return target && *target == session.target;
}

void UdpRelay::receive() {
  static thread_local Datagram bytes;
  for (int i = 0; i < kDatagramsAtOnce; ++i) {
    Address sender;
    alignas(cmsghdr) Control control;
    iovec part{bytes.data(), bytes.size()};
    msghdr header{};
    header.msg_name = &sender.bytes;
    header.msg_namelen = sizeof sender.bytes;
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    ssize_t count = ::recvmsg(socket_.get(), &header, MSG_DONTWAIT);
    if (count < 0) return;
    sender.size = header.msg_namelen;
    if (Session* session = session_for(sender, reply_control(header)))
      (void)::send(session->socket.get(), bytes.data(), static_cast<std::size_t>(count), MSG_DONTWAIT);
  }
}

UdpRelay::Session* UdpRelay::session_for(const Address& sender, const std::string& local) {
  std::string key(reinterpret_cast<const char*>(&sender.bytes), sender.size);
  key += local;
  if (auto found = sessions_.find(key); found != sessions_.end()) {
    found->second.used = Clock::now();
    if (is_current(found->second)) return &found->second;
    drop(key);
  }
  auto target = aim_(sender, local);
  if (!target) return nullptr;
  if (sessions_.size() >= kMaximumSessions) {
    auto oldest = std::ranges::min_element(sessions_, {}, [](const auto& each) { return each.second.used; });
    drop(std::string(oldest->first));
  }
  Fd opened(::socket(target->bytes.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!opened || ::connect(opened.get(), target->get(), target->size) != 0) return nullptr;
  if (!loop_.watch(opened.get(), EPOLLIN, [this, key](std::uint32_t) { answer(key); })) return nullptr;
  auto now = Clock::now();
  return &(sessions_[key] = {std::move(opened), sender, local, *target, now, now});
}

void UdpRelay::answer(const std::string& key) {
  static thread_local Datagram bytes;
  auto found = sessions_.find(key);
  if (found == sessions_.end()) return;
  Session& session = found->second;
  for (int i = 0; i < kDatagramsAtOnce; ++i) {
    ssize_t count = ::recv(session.socket.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (count < 0) return;  // ECONNREFUSED too: nobody listens there (yet)
    session.used = Clock::now();
    iovec part{bytes.data(), static_cast<std::size_t>(count)};
    msghdr header{};
    header.msg_name = &session.sender.bytes;
    header.msg_namelen = session.sender.size;
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = session.local.empty() ? nullptr : session.local.data();
    header.msg_controllen = session.local.size();
    (void)::sendmsg(socket_.get(), &header, MSG_DONTWAIT | MSG_NOSIGNAL);
  }
}

void UdpRelay::drop(const std::string& key) {
  auto gone = sessions_.extract(key);
  if (gone) loop_.forget(gone.mapped().socket.get());
}

void UdpRelay::sweep() {
  std::vector<std::string> idle;
  for (const auto& [key, session] : sessions_)
    if (session.used + kIdle < Clock::now()) idle.push_back(key);
  for (const std::string& key : idle) drop(key);
  timer_ = loop_.after(kSweep, [this] { sweep(); });
}

}  // namespace fastdock::net::relay
