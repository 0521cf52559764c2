// How the clone of a container's process is to be made.
#pragma once

#include "base/clone.h"
#include "base/error.h"
#include "launch/flatten.h"
#include "launch/launch.h"
#include "launch/plan.h"

namespace fastdock::launch {

// Whether the child must not share its caller's memory.
bool needs_own_memory(const LaunchPlan& plan);

// Whether others could reach the child before its execve, so that it must run from sealed memory
// (CVE-2019-5736).
bool is_exposed(const LaunchPlan& plan);

// Does `work`, the clone, on the thread that the child is to die with.
template <class Work>
auto clone_by(const Observer& observer, Work&& work) -> decltype(work()) {
  if (!observer.cloning) return work();
  decltype(work()) done;
  observer.cloning([&] { done = work(); });
  return done;
}

// The clone with a copy of the caller's memory, not a share of it.  Only for processes that run from sealed
// memory: the helper, fastdock-oci.  Joins the PID and time namespaces of the plan for the clone, for which
// the caller's must be the only thread (setns(2)), and leaves them again.  `flags` as for clone3.
Result<Child> clone_container(const LaunchPlan& plan, Flattened& flat, std::uint64_t flags);

}  // namespace fastdock::launch
