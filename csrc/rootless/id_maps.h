// Mapping ids without privilege: what the kernel lets a user map, and what newuidmap(1) and newgidmap(1) add.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"

namespace fastdock::rootless {

struct IdMap {
  std::uint32_t inside = 0, outside = 0, count = 0;
};

struct UserMaps {
  std::vector<IdMap> uids, gids;
};

// Writes the maps of a process that has made a user namespace, as this process's user from outside of it: by
// the two programs; or, for this user's own ids alone, without them and with setgroups(2) denied
// (user_namespaces(7)).
Result<void> map_ids(int process, const UserMaps& maps);

// 0 for this user, and then its ranges of /etc/subuid and /etc/subgid; its own ids alone where there are
// none, or where the two programs are missing.
UserMaps own_maps();

// A program in PATH or where distributions put such programs; empty: it is not there.
std::string find_program(const std::string& name);

}  // namespace fastdock::rootless
