// Descriptors that go to another process over a UNIX socket.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace fastdock {

inline constexpr std::size_t kMostDescriptors = 3;  // in one message

// One message with copies of at most kMostDescriptors descriptors (SCM_RIGHTS in unix(7)), and with
// MSG_NOSIGNAL beside `flags`.  What sendmsg(2) returns.
std::ptrdiff_t send_with_descriptors(int socket, std::string_view data, std::span<const int> descriptors,
                                     int flags = 0);

}  // namespace fastdock
