// Builds a container's file system, in the child: the part of a launch that runs inside the new
// namespaces.  Straight-line system calls over arrays that the parent flattened (prepare.h).
//
// Every path below the root is resolved with openat2(RESOLVE_IN_ROOT), magic links refused, and mounted
// onto by descriptor, so that no link in a hostile image or bundle can send a mount, a directory or a
// device outside (CVE-2021-30465, CVE-2023-27561, CVE-2024-45310 and their kin: SECURITY.md).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>

#include "base/child.h"
#include "rootfs/root_change.h"

namespace fastdock::rootfs {

struct ChildOption {
  const char* key;
  const char* value;  // null: a flag
};

enum class ChildMountKind : std::uint8_t { kBind, kBindInside, kFilesystem, kOverlay };

// One mount_setattr(2).  `reset` is cleared as well, where nothing of it is locked.
struct MountChange {
  std::uint64_t set, clear, reset, propagation;
  bool recursive;
};

struct ChildMount {
  ChildMountKind kind = ChildMountKind::kFilesystem;
  const char* type = "";
  const char* source = "";
  const char* destination = "";
  std::span<const ChildOption> options;
  const char* joined_options = "";  // the same for mount(2)
  std::uint64_t attributes = 0;     // MOUNT_ATTR_*
  bool onto_directory = true;
  bool late_read_only = false;  // made read-only when everything in it is made
  bool copy_up = false;         // starts with what the root has there (tmpcopyup)
  bool keep_mode = false;       // has the mode of the directory that it covers
  int tree = -1;  // kBind: the detached mount; kOverlay: that of the directory with upper/ and work/
  // kBindInside: the source as the container's root has it, and what to make of the mount
  const char* inside = nullptr;
  bool recursive = false;
  bool map_ids = false;  // by the parent: see IdMapper
  std::span<const MountChange> changes;
  std::span<const int> layers;  // kOverlay: detached mounts, the topmost first
};

struct ChildDevice {
  const char* path;
  const char* host_path;  // null: make the node
  mode_t mode;            // with the type bits
  std::uint64_t number;   // as mknod(2) takes it
  uid_t uid;
  gid_t gid;
};

struct ChildLink {
  const char* target;
  const char* path;
};

struct ChildSysctl {
  const char* path;  // below /proc, "sys/net/ipv4/ip_forward"
  const char* value;
};

struct ChildRoot {
  ChildMount root;
  const char* attach_point = "/run";
  bool overlay_takes_descriptors = true;   // see prepare.cpp
  std::uint64_t old_root_propagation = 0;  // 0: of a mount namespace that is not ours to change
  std::span<ChildMount> mounts;            // their `tree` becomes the mount that was made
  std::span<const ChildDevice> devices;
  std::span<const ChildLink> links;
  std::span<const char* const> masked_paths, read_only_paths;
};

// Has the parent map the ids of a detached mount, the n-th of the plan's: where the child is in a user
// namespace, it has not the rights for that.  False with its own failure set.
struct IdMapper {
  bool (*ask)(void* who, std::size_t mount, int tree);
  void* who;
};

// Mounts the root at the attach point and everything below it.  Returns the root's descriptor, or -1
// with `failure` set.  `proc`: out, a descriptor of a procfs that was mounted here, or -1.
int build_root(const ChildRoot& plan, IdMapper mapper, int& proc, child::Failure& failure);

// What was to be read-only and had to be written to until now.
bool finish_root(const ChildRoot& plan, int root, child::Failure& failure);

// Masks and read-only paths; after everything that needs them writable.
bool protect_paths(const ChildRoot& plan, int root, child::Failure& failure);

// Makes `root` the root directory and the working directory.
// kMove: the old root stays, out of reach by name; `bare` are the procfs and sysfs mounts in it, which are
// taken away.
// The kernel lets a user namespace mount a new procfs, with nothing masked, where it finds a bare one
// anywhere in the mount namespace (mount_too_revealing).
bool enter_root(int root, RootChange change, std::span<const char* const> bare, child::Failure& failure);

// A procfs of our own for writes to /proc: a new instance that no container can have touched
// (CVE-2019-16884, CVE-2019-19921, CVE-2025-52881).  -1 with `failure` set.
int open_private_proc(child::Failure& failure);

}  // namespace fastdock::rootfs
