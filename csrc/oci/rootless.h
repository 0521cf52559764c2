// An ordinary user's container: its user namespace is entered before anything is prepared, because only there
// may this process open what the container's root file system is made of.
#pragma once

#include <sys/types.h>

#include "base/error.h"
#include "launch/plan.h"

namespace fastdock::oci {

// For root: nothing.  Otherwise makes the plan's user namespace, with its id maps, and enters it; the plan
// then takes it as it is.  EPERM kNeedsRoot: the plan has none of its own.
Result<void> enter_user_namespace(launch::LaunchPlan& plan);

// For root: nothing.  Otherwise joins the user namespace that the process is in, whose owner we are: for
// exec.
Result<void> join_user_namespace_of(pid_t pid);

}  // namespace fastdock::oci
