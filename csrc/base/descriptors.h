// Descriptors that go to another process over a UNIX socket.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "base/fd.h"

namespace fastdock {

inline constexpr std::size_t kMostDescriptors = 3;  // in one message

// One message with copies of at most kMostDescriptors descriptors (SCM_RIGHTS in unix(7)), and with
// MSG_NOSIGNAL beside `flags`.  What sendmsg(2) returns.
std::ptrdiff_t send_with_descriptors(int socket, std::string_view data, std::span<const int> descriptors,
                                     int flags = 0);

// Has the kernel close it later, in a thread of its own, where close(2) would wait: it becomes garbage, part
// of a message to a socket that nobody has any more (unix(7), SCM_RIGHTS; since Linux 6.10's commit
// 8594d9b85c07 a work queue collects it, before that our own close of the other end).
void close_in_kernel(Fd descriptor);

}  // namespace fastdock
