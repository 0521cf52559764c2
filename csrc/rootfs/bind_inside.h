// A bind mount of what the container's own root has: the source may lie in what an earlier mount put there.
#pragma once

#include "rootfs/child_root.h"

namespace fastdock::rootfs {

// The detached mount of the n-th entry (and whether it is a directory goes to that), or -1 with `failure`
// set.  In the child; see child_root.h.
int bind_inside(std::span<ChildMount> mounts, std::size_t number, int root, IdMapper mapper,
                child::Failure& failure);

// Makes the change to a detached mount; -errno, as raw_syscall().  Its own user namespace may have locked
// what was only to be reset: then that stays, as runc has it.
long change_mount(int tree, const MountChange& change);

}  // namespace fastdock::rootfs
