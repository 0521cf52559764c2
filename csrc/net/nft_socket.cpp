#include "net/nft_socket.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/descriptors.h"
#include "net/nft.h"

namespace fastdock::net {

NftSocket& NftSocket::of_process() {
  static auto* socket = new NftSocket;  // never destroyed: threads may still use it when the process exits
  return *socket;
}

Result<void> NftSocket::open() {
  struct stat space{};
  if (::stat("/proc/thread-self/ns/net", &space) != 0) return failed(Operation::kOpenNamespace, "network");
  // A socket inherited over fork(2) is shared with the parent: its answers may be read by either.
  if (socket_ && process_ == ::getpid() && space_ == space.st_ino) return {};
  socket_.reset();
  whole_at_.clear();
  FASTDOCK_TRY(socket_, NetlinkSocket::open(NETLINK_NETFILTER));
  process_ = ::getpid();
  space_ = space.st_ino;
  return {};
}

std::optional<std::uint32_t> NftSocket::known_generation(const std::string& table) {
  auto found = whole_at_.find(table);
  if (found == whole_at_.end()) return std::nullopt;
  return found->second;
}

void NftSocket::remember_generation(const std::string& table, std::uint32_t generation) {
  whole_at_[table] = generation;
}

void NftSocket::count_own_change() {
  for (auto& [table, generation] : whole_at_)
    if (++generation == 0) ++generation;  // the kernel leaves out 0, too
}

void NftSocket::leave() {
  std::scoped_lock lock(mutex_);
  if (socket_ && process_ == ::getpid()) close_in_kernel(socket_->take_descriptor());
  socket_.reset();
}

void leave_socket() { NftSocket::of_process().leave(); }

}  // namespace fastdock::net
