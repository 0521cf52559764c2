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

// A process is needed to make one.  From keep_holders() on, its end is not waited for until end_holders():
// that takes a switch to it and back, which is none of the container's business.
void keep_holders();
void end_holders();

// Lets go of those that are kept.
void release_kept_user_namespaces();

}  // namespace fastdock::rootfs
