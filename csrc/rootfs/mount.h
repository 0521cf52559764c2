// What a container's file system is made of, as plain values: mounts, devices, links, id mappings.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace fastdock::rootfs {

// A range of ids: `inside` the user namespace, `outside` in the parent.  user_namespaces(7).
struct IdMapping {
  std::uint32_t inside = 0;
  std::uint32_t outside = 0;
  std::uint32_t count = 0;
  auto operator<=>(const IdMapping&) const = default;
};

struct IdMaps {
  std::vector<IdMapping> uids, gids;
  [[nodiscard]] bool empty() const { return uids.empty() && gids.empty(); }
  auto operator<=>(const IdMaps&) const = default;
};

// One mount below the new root (or the root itself), made in the order of the plan.
struct Mount {
  // "bind", "overlay", or the name of a file system in /proc/filesystems.
  std::string type;
  std::string source;                // bind: a path on the host; otherwise the name shown in mountinfo
  std::string destination;           // in the container; its links are resolved inside the root
  std::string options;               // the file system's own options, comma separated
  std::uint64_t attributes_set = 0;  // MOUNT_ATTR_*, of mount_setattr(2)
  std::uint64_t attributes_clear = 0;
  // bind: cleared, too, unless they are locked (mount_namespaces(7)): what the source has and nobody asked
  // for
  std::uint64_t attributes_reset = 0;
  std::uint64_t recursive_set = 0;  // the same for the whole tree of a recursive bind (rro and friends)
  std::uint64_t recursive_clear = 0;
  std::uint64_t propagation = 0;  // MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE; 0: MS_PRIVATE
  bool propagation_recursive = true;
  // bind: the source is this path in the container's root, as the mounts before this one have left it;
  // `source` is its name in errors
  std::string inside;
  // bind: a directory that is being made while the rest is prepared; then open_late_sources()
  bool late_source = false;
  bool recursive = false;     // bind: with what is mounted below it (rbind)
  bool copy_up = false;       // tmpfs: starts with a copy of what the image has there (OCI tmpcopyup)
  bool map_ids = false;       // bind: show the container's ids for the host's (an id-mapped mount)
  bool map_ids_below = true;  // and, where it is recursive, for what is mounted below it
  bool keep_mode = false;     // tmpfs: has the mode of the directory that it covers, if there is one
  IdMaps id_maps;             // map_ids with these instead of the container's own
  // overlay: directories, the lowest first; `directory` holds upper/ and work/ (none: read-only)
  std::vector<std::string> layers;
  std::string directory;
  bool in_memory = false;  // upper/ and work/ on a tmpfs of their own, which goes with the container
};

struct Device {
  std::string path;  // in the container
  char kind = 'c';   // c, b or p
  std::uint32_t major = 0, minor = 0;
  mode_t mode = 0666;
  uid_t uid = 0;
  gid_t gid = 0;
  // Where set, the node is bound from the host instead of made: the only way in a user namespace.
  std::string host_path;
};

struct Link {
  std::string target, path;
};

}  // namespace fastdock::rootfs
