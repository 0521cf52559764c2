// The cgroup of a container, and what of it is seen inside.
#pragma once

#include <string>

#include "base/error.h"
#include "cgroup/cgroup.h"
#include "oci/config.h"

namespace fastdock::oci {

// Which cgroup "linux.cgroupsPath" means, as Cgroup::create takes it.
Result<std::string> cgroup_path(const Config& config, const std::string& id);

// Puts into the plan, for each mount of type "cgroup", what this machine has: on v2 the container's cgroup,
// on v1 a tmpfs with its directory in each hierarchy.  The cgroup `path` need not be there yet.
Result<void> add_cgroup_mounts(const std::string& path, launch::LaunchPlan& plan);

}  // namespace fastdock::oci
