// User namespaces that exist only to describe an id mapping, for id-mapped mounts (mount_setattr(2)).
#pragma once

#include <memory>
#include <string>

#include "base/error.h"
#include "base/fd.h"
#include "rootfs/mount.h"

namespace fastdock::rootfs {

// "0 1879048192 65536\n": a line per range, as /proc/PID/uid_map takes it.
std::string map_text(const std::vector<IdMapping>& mappings);

// A descriptor of a user namespace with these maps.  Kept for the next time: making one costs a process.
Result<std::shared_ptr<Fd>> user_namespace(const IdMaps& maps);

// The same from the second time that these maps are asked for; nothing the first time.  Who starts a single
// container does not need the process: the container's own user namespace will do, once it is there.
Result<std::shared_ptr<Fd>> user_namespace_if_again(const IdMaps& maps);

// Lets go of those that are kept.
void release_kept_user_namespaces();

}  // namespace fastdock::rootfs
