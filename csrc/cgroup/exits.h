// The processes of one cgroup directory: listing, signalling and waiting for their end, by event.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "base/error.h"

namespace fastdock::cgroup {

using Deadline = std::chrono::steady_clock::time_point;

// Of the directory and all below it.  Processes outside of our PID namespace show as 0 and are left out.
Result<std::vector<pid_t>> processes_in(const std::string& directory);

// Returns when the processes that were in the directory have left it, or sooner where the kernel cannot
// tell, or at the deadline: the caller looks again.
Result<void> wait_for_exits(const std::string& directory, Deadline deadline);

// SIGKILL to each process in the directory and below it (to as many as descriptors can be had for).
Result<void> kill_once(const std::string& directory);

// Waits until the `key` of a flat-keyed v2 file (cgroup.events) is `value`.  ETIMEDOUT at the deadline.
Result<void> wait_for_event(const std::string& file, const char* key, std::uint64_t value, Deadline deadline);

}  // namespace fastdock::cgroup
