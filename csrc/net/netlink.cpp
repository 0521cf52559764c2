#include "net/netlink.h"

#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

namespace fastdock::net {
namespace {

constexpr std::size_t kReceiveBuffer = 64 * 1024;  // the kernel's dumps come in messages of up to 32 KiB
constexpr std::size_t kSmallAnswer = 1024;

std::size_t aligned(std::size_t size) { return (size + NLA_ALIGNTO - 1) & ~std::size_t{NLA_ALIGNTO - 1}; }

// What the kernel says in words about the failed request (NLMSGERR_ATTR_MSG, since Linux 4.12).
std::string explanation(const nlmsghdr& header, Bytes message) {
  std::string words;
  if (!(header.nlmsg_flags & NLM_F_ACK_TLVS)) return words;
  std::size_t offset = sizeof(nlmsgerr);
  nlmsgerr error{};
  std::memcpy(&error, message.data(), sizeof error);
  // Without NETLINK_CAP_ACK the request is repeated before the attributes; with it only its header is.
  if (!(header.nlmsg_flags & NLM_F_CAPPED) && error.msg.nlmsg_len >= sizeof(nlmsghdr))
    offset += error.msg.nlmsg_len - sizeof(nlmsghdr);
  if (offset > message.size()) return words;
  for_each_attribute(message.subspan(offset), [&](std::uint16_t type, Bytes value) {
    if (type != NLMSGERR_ATTR_MSG || value.empty()) return;
    words.assign(reinterpret_cast<const char*>(value.data()), value.size());
    words.resize(std::strlen(words.c_str()));
  });
  return words;
}

// What the kernel says to the requests of a batch, up to the last one's answer.
class Answers {
 public:
  Answers(const Batch& batch, const Batch::Request& last, const NetlinkSocket::Visit& visit)
      : requests_(batch.requests()), last_(last.sequence), visit_(visit) {}

  // Reads one datagram; whether that was the last.
  bool take(Bytes rest) {
    while (rest.size() >= sizeof(nlmsghdr)) {
      nlmsghdr header{};
      std::memcpy(&header, rest.data(), sizeof header);
      if (header.nlmsg_len < sizeof header || header.nlmsg_len > rest.size()) break;
      Bytes message = rest.subspan(sizeof header, header.nlmsg_len - sizeof header);
      rest = rest.subspan(std::min(aligned(header.nlmsg_len), rest.size()));
      bool is_last = header.nlmsg_seq == last_;
      if (header.nlmsg_type == NLMSG_DONE && is_last) return true;
      if (header.nlmsg_type != NLMSG_ERROR) {
        if (visit_) visit_(header.nlmsg_type, message);
        continue;
      }
      if (message.size() < sizeof(nlmsgerr)) break;
      note_error(header, message);
      if (is_last) return true;
    }
    return false;
  }
  [[nodiscard]] Result<void>& first_error() { return first_; }

 private:
  void note_error(const nlmsghdr& header, Bytes message) {
    nlmsgerr error{};
    std::memcpy(&error, message.data(), sizeof error);
    if (error.error == 0 || !first_ || header.nlmsg_seq < 1 || header.nlmsg_seq > requests_.size()) return;
    const auto& request = requests_[header.nlmsg_seq - 1];
    std::string words = explanation(header, message);
    first_ = failed_with(-error.error, request.operation,
                         words.empty() ? request.path : request.path + " (" + words + ")");
  }

  const std::vector<Batch::Request>& requests_;
  std::uint32_t last_;
  const NetlinkSocket::Visit& visit_;
  Result<void> first_;
};

}  // namespace

void Batch::append(Bytes bytes) {
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  buffer_.resize(aligned(buffer_.size()));
}

void Batch::begin_raw(std::uint16_t type, std::uint16_t flags, Bytes header, Operation operation,
                      std::string_view path) {
  finish();
  current_ = buffer_.size();
  auto sequence = static_cast<std::uint32_t>(requests_.size() + 1);
  nlmsghdr message{0, type, static_cast<std::uint16_t>(flags | NLM_F_REQUEST), sequence, 0};
  append(std::as_bytes(std::span(&message, 1)));
  append(header);
  requests_.push_back({sequence, current_, operation, std::string(path)});
}

void Batch::finish() {
  if (requests_.empty()) return;
  auto length = static_cast<std::uint32_t>(buffer_.size() - current_);
  std::memcpy(buffer_.data() + current_, &length, sizeof length);
}

void Batch::want_answer(const Request& request) {
  nlmsghdr header{};
  std::memcpy(&header, buffer_.data() + request.offset, sizeof header);
  header.nlmsg_flags |= NLM_F_ACK;
  std::memcpy(buffer_.data() + request.offset, &header, sizeof header);
}

void Batch::put(std::uint16_t type, Bytes value) {
  nlattr attribute{static_cast<std::uint16_t>(NLA_HDRLEN + value.size()), type};
  append(std::as_bytes(std::span(&attribute, 1)));
  append(value);
}

void Batch::put_string(std::uint16_t type, std::string_view text) {
  std::string terminated(text);
  put(type, std::as_bytes(std::span(terminated.c_str(), terminated.size() + 1)));
}

std::size_t Batch::open(std::uint16_t type) {
  std::size_t nest = buffer_.size();
  nlattr attribute{NLA_HDRLEN, static_cast<std::uint16_t>(type | NLA_F_NESTED)};
  append(std::as_bytes(std::span(&attribute, 1)));
  return nest;
}

void Batch::close(std::size_t nest) {
  auto length = static_cast<std::uint16_t>(buffer_.size() - nest);
  std::memcpy(buffer_.data() + nest, &length, sizeof length);
}

void for_each_attribute(Bytes bytes, const std::function<void(std::uint16_t, Bytes)>& visit) {
  while (bytes.size() >= NLA_HDRLEN) {
    nlattr attribute{};
    std::memcpy(&attribute, bytes.data(), sizeof attribute);
    if (attribute.nla_len < NLA_HDRLEN || attribute.nla_len > bytes.size()) return;
    visit(attribute.nla_type & NLA_TYPE_MASK, bytes.subspan(NLA_HDRLEN, attribute.nla_len - NLA_HDRLEN));
    bytes = bytes.subspan(std::min(aligned(attribute.nla_len), bytes.size()));
  }
}

Result<NetlinkSocket> NetlinkSocket::open(int protocol) {
  NetlinkSocket made;
  made.fd_.reset(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol));
  if (!made.fd_) return failed(Operation::kOpenNetlink);
  int on = 1;
  // Both only better the error messages, so a kernel that lacks them is fine.
  ::setsockopt(made.fd_.get(), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
  ::setsockopt(made.fd_.get(), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
  return made;
}

Result<void> NetlinkSocket::send(Batch& batch) {
  batch.finish();
  // A transaction of the whole table is larger than the default buffer (net.core.wmem_default).
  if (batch.buffer_.size() > 64 * 1024) {
    int size = static_cast<int>(batch.buffer_.size() * 2);
    if (::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) != 0)
      ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  }
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  iovec part{batch.buffer_.data(), batch.buffer_.size()};
  msghdr message{};
  message.msg_name = &kernel;
  message.msg_namelen = sizeof kernel;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  const auto& last = batch.requests_.back();
  if (::sendmsg(fd_.get(), &message, 0) < 0) return failed(last.operation, last.path);
  return {};
}

// Reads until `last` is answered: by its acknowledgement, its error, or the end of its dump.
Result<void> NetlinkSocket::receive(const Batch& batch, const Batch::Request& last, const Visit& visit) {
  // Not cleared: that costs more than most answers.  Not on the stack: the monitor's is small.
  auto buffer = std::make_unique_for_overwrite<std::byte[]>(kReceiveBuffer);
  Answers answers(batch, last, visit);
  for (;;) {
    // sendmsg(2) to the kernel returns after the work is done, so every answer is there already: not waiting
    // means that a lost one is an error and not a hang.
    ssize_t size = ::recv(fd_.get(), buffer.get(), kReceiveBuffer, MSG_DONTWAIT);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == EAGAIN && !answers.first_error()) return answers.first_error();
    if (size < 0) return failed(last.operation, last.path);
    if (answers.take({buffer.get(), static_cast<std::size_t>(size)})) return answers.first_error();
  }
}

// The same for small answers that come in a datagram each.
Result<void> NetlinkSocket::receive_many(const Batch& batch, const Batch::Request& last, const Visit& visit) {
  auto buffer = std::make_unique_for_overwrite<std::byte[]>(kReceiveBuffer);
  std::array<mmsghdr, kReceiveBuffer / kSmallAnswer> messages{};
  std::array<iovec, messages.size()> parts{};
  for (std::size_t i = 0; i < messages.size(); ++i) {
    parts[i] = {buffer.get() + i * kSmallAnswer, kSmallAnswer};
    messages[i].msg_hdr.msg_iov = &parts[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  Answers answers(batch, last, visit);
  for (;;) {
    int count = ::recvmmsg(fd_.get(), messages.data(), messages.size(), MSG_DONTWAIT, nullptr);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN && !answers.first_error()) return answers.first_error();
    if (count < 0) return failed(last.operation, last.path);
    for (const auto& message : std::span(messages).first(static_cast<std::size_t>(count))) {
      if (message.msg_hdr.msg_flags & MSG_TRUNC) return failed_with(EMSGSIZE, last.operation, last.path);
      auto* bytes = static_cast<const std::byte*>(message.msg_hdr.msg_iov->iov_base);
      if (answers.take({bytes, message.msg_len})) return answers.first_error();
    }
  }
}

void NetlinkSocket::discard_answers() {
  std::array<std::byte, 1> rest;
  // Longer answers are cut, ENOBUFS says that some were lost: all the same here.
  while (::recv(fd_.get(), rest.data(), rest.size(), MSG_DONTWAIT) >= 0 || errno == ENOBUFS ||
         errno == EINTR) {
  }
}

Result<void> NetlinkSocket::execute(Batch& batch) {
  if (batch.empty()) return {};
  // Errors are always reported; only the last request needs to be acknowledged when it succeeds.
  batch.want_answer(batch.requests().back());
  FASTDOCK_CHECK(send(batch));
  return receive(batch, batch.requests().back(), {});
}

Result<void> NetlinkSocket::execute_transaction(Batch& batch) {
  // The last request before the end: kernels before 6.11 do not acknowledge the end itself.
  const auto& last = batch.requests()[batch.requests().size() - 2];
  batch.want_answer(last);
  FASTDOCK_CHECK(send(batch));
  return receive(batch, last, {});
}

// Any socket answers this, and without the RTNL lock, which RTM_GETLINK takes.
Result<std::uint32_t> NetlinkSocket::index_of(const std::string& device) {
  ifreq request{};
  if (device.size() >= sizeof request.ifr_name)
    return failed_with(ENODEV, Operation::kConfigureLinkDevice, device);
  std::memcpy(request.ifr_name, device.data(), device.size());
  if (::ioctl(fd_.get(), SIOCGIFINDEX, &request) != 0) return failed(Operation::kConfigureLinkDevice, device);
  return static_cast<std::uint32_t>(request.ifr_ifindex);
}

Result<void> NetlinkSocket::ask(Batch& batch, const Visit& visit) {
  FASTDOCK_CHECK(send(batch));
  return receive(batch, batch.requests().back(), visit);
}

Result<void> NetlinkSocket::ask_all(Batch& batch, const Visit& visit) {
  batch.want_answer(batch.requests().back());
  FASTDOCK_CHECK(send(batch));
  return receive_many(batch, batch.requests().back(), visit);
}

}  // namespace fastdock::net
