// Starting a monitor: the caller's side.
#pragma once

#include <sys/types.h>

#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "monitor/request.h"

namespace fastdock::monitor {

// The bytes of the monitor's executable, embedded by whoever links the core; set once at start.
void set_monitor_program(std::span<const std::byte> program);

struct Started {
  pid_t pid = -1;
  std::vector<std::string> warnings;
  Fd socket;  // attached as was asked for; a control connection in any case (protocol.h)
};

// Starts the container with a monitor of its own, which is no child of the caller and outlives it.  Returns when
// the container's program has been executed, or with the one error that stopped it; then nothing is left of it.
// EBUSY: it runs already.  `attached`: kAttach* bits; so no output is missed.
Result<Started> start(const Request& request, int attached = 0);

}  // namespace fastdock::monitor
