// What a thread of the caller does for a container without being in it.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "base/error.h"
#include "base/fd.h"

namespace fastdock::monitor {

// A TCP connection to 127.0.0.1:port in the network namespace of `pid`, made by a thread that goes there and ends.
Result<Fd> connect_in(pid_t pid, std::uint16_t port);

// From now on what the calling thread creates belongs to these ids, while it keeps its capabilities over files.
// For threads that write into a container's file system, whose overlay takes no owner that is not of its user
// namespace (EOVERFLOW, fsuidgid_has_mapping()).  Only this thread, until it ends.
Result<void> own_files_as(uid_t uid, gid_t gid);

}  // namespace fastdock::monitor
