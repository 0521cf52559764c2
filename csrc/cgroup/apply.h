// Limits -> control files.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "cgroup/files.h"
#include "cgroup/limits.h"

namespace fastdock::cgroup {

// What could not be done and is no reason to fail, as Docker decides it: one sentence each.
using Warnings = std::vector<std::string>;

// Writes the limits of one controller into its directory.
Result<void> apply_v1(Controller controller, const Files& files, const Limits& limits, Warnings& warnings);
Result<void> apply_v2(Controller controller, const Files& files, const Limits& limits, Warnings& warnings);

// rdma.max is the same on both versions.
Result<void> apply_rdma(const Files& files, const Limits& limits);

// "8:0 " + suffix
std::string device_line(std::uint32_t major, std::uint32_t minor, std::string_view suffix);

// Refuses what no kernel takes, before anything is created: malformed device rules, names that are paths.
Result<void> check(const Limits& limits, Version version);

}  // namespace fastdock::cgroup
