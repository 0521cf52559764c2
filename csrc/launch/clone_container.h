// The clone of a container's process with a copy of the caller's memory, not a share of it.  Only for
// processes with one thread that run from sealed memory: the helper, fastdock-oci.
#pragma once

#include "base/clone.h"
#include "base/error.h"
#include "launch/flatten.h"
#include "launch/plan.h"

namespace fastdock::launch {

// Joins the PID and time namespaces of the plan for the clone, and leaves them again.  `flags` as for clone3.
Result<Child> clone_container(const LaunchPlan& plan, Flattened& flat, std::uint64_t flags);

}  // namespace fastdock::launch
