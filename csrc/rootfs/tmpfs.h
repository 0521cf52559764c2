// Tmpfs mounts that the parent makes and fills before there is a container.
//
// Nobody else has seen such a directory yet, so names in it need none of the walks that a path below a
// hostile root needs; and a tmpfs of the host's user namespace may hold device nodes (mknod(2)), where one
// made by the container may not.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "rootfs/child_root.h"
#include "rootfs/mount.h"

namespace fastdock::rootfs {

// A detached tmpfs with upper/ and work/ for an overlay, owned by the container's root: on a disk's file
// system the directories of a container that is thrown away cost a third of its whole life
// (docs/benchmarks.md).
Result<Fd> memory_directory(mode_t root_mode, const IdMaps& maps);

// The type bits of a device's mode, as mknod(2) takes them.
mode_t type_of(const Device& device);

// What a plan puts directly into one tmpfs.
struct Contents {
  std::vector<const Device*> devices;
  std::vector<const Link*> links;
  std::vector<std::string> directories;  // where further mounts go
  [[nodiscard]] bool empty() const { return devices.empty() && links.empty() && directories.empty(); }
};

// What of a plan goes directly into this mount; of two devices with one name the later.
Contents contents_of(const Mount& mount, const std::vector<Device>& devices, const std::vector<Link>& links,
                     const std::vector<Mount>& mounts);

// Whether make_filled() can make this mount: its options mean the same outside the user namespace.
bool can_be_filled(const Mount& mount, const IdMaps& maps);

// A detached tmpfs with those contents, all of them the container's root's unless the plan says otherwise.
// EPERM kCreateDevice: we may make no device nodes ourselves.
Result<Fd> make_filled(std::span<const ChildOption> options, const char* source, std::uint64_t attributes,
                       const Contents& contents, const IdMaps& maps);

}  // namespace fastdock::rootfs
