#include "net/resolver_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "base/descriptors.h"

namespace fastdock::net {
namespace {

Result<Fd> open_socket(int type) {
  Fd opened(::socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!opened) return failed(Operation::kOpenResolver, kResolverAddress);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(53);
  ::inet_pton(AF_INET, kResolverAddress, &address.sin_addr);
  if (::bind(opened.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return failed(Operation::kOpenResolver, kResolverAddress);
  if (type == SOCK_STREAM && ::listen(opened.get(), 16) != 0)
    return failed(Operation::kOpenResolver, kResolverAddress);
  return opened;
}

Result<Fd> connect_to(const std::string& path) {
  Fd opened(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!opened) return failed(Operation::kConnectResolver, path);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return failed_with(ENAMETOOLONG, Operation::kConnectResolver, path);
  std::memcpy(address.sun_path, path.data(), path.size());
  // A resolver that hangs must not hang the start of a container.
  timeval patience{.tv_sec = 2, .tv_usec = 0};
  ::setsockopt(opened.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  ::setsockopt(opened.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (::connect(opened.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return failed(Operation::kConnectResolver, path);
  return opened;
}

// One request, one answer: "ok" and maybe more, or an error's words.
Result<std::string> converse(const std::string& path, std::string_view request,
                             const std::vector<int>& descriptors) {
  FASTDOCK_TRY(auto socket, connect_to(path));
  if (send_with_descriptors(socket.get(), request, descriptors) < 0)
    return failed(Operation::kConnectResolver, path);
  std::string answer(64 * 1024, '\0');
  ssize_t size = ::recv(socket.get(), answer.data(), answer.size(), 0);
  if (size < 0) return failed(Operation::kConnectResolver, path);
  if (size == 0) return failed_with(ECONNRESET, Operation::kConnectResolver, path);
  answer.resize(static_cast<std::size_t>(size));
  if (!answer.starts_with("ok"))
    return failed_with(EINVAL, Operation::kConnectResolver, path + " (" + answer + ")");
  return answer.substr(std::min<std::size_t>(3, answer.size()));
}

}  // namespace

Result<ResolverSockets> open_resolver_sockets() {
  ResolverSockets sockets;
  FASTDOCK_TRY(sockets.udp, open_socket(SOCK_DGRAM));
  FASTDOCK_TRY(sockets.tcp, open_socket(SOCK_STREAM));
  return sockets;
}

Result<void> register_container(const std::string& resolver, std::string_view record,
                                const ResolverSockets& sockets, int process) {
  std::vector<int> descriptors;
  if (sockets.udp) descriptors = {sockets.udp.get(), sockets.tcp.get()};
  if (process >= 0) descriptors.push_back(process);
  FASTDOCK_CHECK(converse(resolver, "add\n" + std::string(record), descriptors));
  return {};
}

Result<void> unregister_container(const std::string& resolver, std::string_view id) {
  FASTDOCK_CHECK(converse(resolver, "remove\n" + std::string(id), {}));
  return {};
}

Result<std::string> list_registered(const std::string& resolver) { return converse(resolver, "list\n", {}); }

}  // namespace fastdock::net
