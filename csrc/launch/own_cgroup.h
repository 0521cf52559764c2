// What a plan says of the cgroup that its process is to have.
#pragma once

#include "base/error.h"
#include "cgroup/cgroup.h"
#include "launch/plan.h"

namespace fastdock::launch {

// The process starts in `group`, as long as the answer is held.
Result<cgroup::Join> start_in(const cgroup::Cgroup& group, LaunchPlan& plan);

// Mounts of the cgroup file systems become binds of `group`, where the plan has a new cgroup namespace.
void show_own_cgroup(const cgroup::Cgroup& group, LaunchPlan& plan);

}  // namespace fastdock::launch
