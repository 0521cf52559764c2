// Hooks: programs of the bundle's that are told about the container (config.md, "POSIX-platform Hooks").
#pragma once

#include <functional>
#include <span>
#include <string>

#include "base/error.h"
#include "launch/plan.h"
#include "oci/config.h"

namespace fastdock::oci {

// Runs each with `state` (JSON) on its standard input, and waits for it; an error is the first that failed or
// took too long.  `kind` is config.json's name for them.  `place` is where: the runtime's own namespaces and
// credentials, or a plan that joins others.
Result<void> run_hooks(std::string_view kind, std::span<const Hook> hooks, const std::string& state,
                       const launch::LaunchPlan& place);

// The runtime's own namespaces, with the bundle as working directory.
launch::LaunchPlan runtime_place(const std::string& bundle);

// All namespaces of a process that are not ours too.
Result<void> join_namespaces_of(pid_t pid, launch::LaunchPlan& plan);

}  // namespace fastdock::oci
