#include "base/descriptors.h"

#include <sys/socket.h>

#include <array>
#include <cstring>

namespace fastdock {

std::ptrdiff_t send_with_descriptors(int socket, std::string_view data, std::span<const int> descriptors,
                                     int flags) {
  iovec part{const_cast<char*>(data.data()), data.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMostDescriptors * sizeof(int))> control{};
  if (!descriptors.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size_bytes());
  }
  return ::sendmsg(socket, &message, MSG_NOSIGNAL | flags);
}

void close_in_kernel(Fd descriptor) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) return;
  Fd sender(ends[0]);
  Fd receiver(ends[1]);
  // In its own queue the receiver has no user left; a queue alone would be emptied by our close of it.
  (void)send_with_descriptors(sender.get(), "x", std::array{descriptor.get(), receiver.get()});
  // Ours first: the sender's close begins the collection, which must be the last to let it go.
  descriptor.reset();
  receiver.reset();
}

}  // namespace fastdock
