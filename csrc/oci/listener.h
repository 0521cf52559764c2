// Who answers for a container's seccomp notifications (config-linux.md, "The Container Process State").
#pragma once

#include "base/error.h"
#include "oci/config.h"
#include "oci/state.h"

namespace fastdock::oci {

// Sends the seccomp listener, with what the process is, to listenerPath.
Result<void> send_listener(const SeccompListener& listener, const State& state, int descriptor);

}  // namespace fastdock::oci
