// Network devices of the host's that a container takes ("linux.netDevices").
#pragma once

#include <sys/types.h>

#include "base/error.h"
#include "oci/config.h"

namespace fastdock::oci {

// Moves them into the network namespace of a container whose first process has been cloned, with the names
// that they have there, and gives them back their addresses.  config-linux.md, "Network Devices".
Result<void> move_network_devices(const Config& config, pid_t pid);

}  // namespace fastdock::oci
