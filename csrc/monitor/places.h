// Where a persistent container's things are, and how they come and go.  ARCHITECTURE.md, "What is on disk".
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "launch/session.h"

namespace fastdock::monitor {

using launch::Places;

std::string state_directory(const Places& places, const std::string& id);
std::string run_directory(const Places& places, const std::string& id);

// A range of ids for the container `id`, reserved until release_ids(): the range's number.
Result<int> reserve_ids(const Places& places, const std::string& id);
void release_ids(const Places& places, int number);

// The run directory, made and locked: whoever holds this is the container's monitor, or repairs after one.
// EBUSY: a monitor has it; one can then connect to its socket, `control`.
Result<Fd> take_run_directory(const Places& places, const std::string& id);

// Kills what runs in the container's cgroup and removes it.
Result<void> remove_cgroup(const Places& places, const std::string& id);

// For each container whose monitor was killed: ends its processes, removes its cgroup, records that it ended
// by SIGKILL (137), and removes its run directory.  Returns their ids.
Result<std::vector<std::string>> repair(const Places& places);

// What each monitor says of its container now: id -> the bytes of its state.json.
Result<std::map<std::string, std::string>> live_states(const Places& places);

}  // namespace fastdock::monitor
