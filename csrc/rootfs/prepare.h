// The parent's half of a root file system: opens what the child could not reach (the state directory is
// 0700, and only the host's root may make id-mapped mounts) and flattens mounts into the child's arrays.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "rootfs/child_root.h"
#include "rootfs/mount.h"
#include "rootfs/tmpfs.h"

namespace fastdock::rootfs {

// Owns what the child's arrays point to, and keeps it alive until the child has executed its program.
// Strings of the plan are pointed to, not copied: the plan must outlive this.
class PreparedRoot {
 public:
  // `maps`: the container's id maps, empty without a user namespace.
  Result<ChildMount> add(const Mount& mount, const IdMaps& maps, bool is_root = false);

  // The same for a tmpfs that the parent makes and fills (tmpfs.h).
  Result<ChildMount> add_filled(const Mount& mount, const Contents& contents, const IdMaps& maps);

  // Binds that map ids and have no mappings of their own do it by this user namespace, which is the
  // container's but not made by us.  An open descriptor.
  void map_ids_by(int user_namespace) { user_namespace_ = user_namespace; }

  // What maps the container's ids may be left to map_ids_late(), with the container's own user namespace,
  // where another of the same maps would have to be made for it.
  void may_map_late() { may_map_late_ = true; }
  // After the clone and before the child uses the mounts, which are its own descriptors of the same.
  [[nodiscard]] bool has_late() const { return !late_.empty(); }
  Result<void> map_ids_late(int user_namespace);

  // The tmpfs that the root's upper/ and work/ are in, where they are in memory: afterwards the caller's,
  // since whoever has it can look at what the container writes.  No mount namespace shows it.
  [[nodiscard]] Fd take_memory() { return std::move(memory_); }

  // Ids could not be mapped there (the file system does not support it): the mount shows the host's ids.
  [[nodiscard]] const std::vector<std::string>& unmapped() const { return unmapped_; }

 private:
  Result<void> add_bind(const Mount& mount, const IdMaps& maps, ChildMount& child);
  Result<void> add_overlay(const Mount& mount, const IdMaps& maps, ChildMount& child, bool is_root);
  void add_options(const std::string& options, ChildMount& child);
  Result<void> map_bind(const Mount& mount, const IdMaps& maps, int tree);
  Result<bool> maps_late(const IdMaps& maps);
  Result<Fd> open_layer(const std::string& path, const IdMaps& maps);
  int keep(Fd fd);

  struct Late {
    int tree;
    const std::string* source;
    bool is_layer, recursive;
  };
  bool may_map_late_ = false;
  std::optional<bool> maps_late_;
  std::vector<Late> late_;
  int user_namespace_ = -1;
  Fd memory_;
  std::deque<Fd> descriptors_;
  std::deque<std::string> texts_;
  std::deque<std::vector<ChildOption>> options_;
  std::deque<std::vector<int>> layers_;
  std::deque<std::vector<MountChange>> changes_;
  std::vector<std::string> unmapped_;
};

// The detached mounts of the late sources, in the order of `mounts`: when those are there.
Result<std::vector<Fd>> open_late_sources(const std::vector<Mount>& mounts);

// Maps the ids of a detached mount, and where the mount says so of what is below it, by its own mappings;
// where it has none, by `user_namespace`, an open descriptor.
Result<void> map_ids_of(const Mount& mount, int tree, int user_namespace);

// Overlayfs takes its layers by descriptor, and detached mounts can be cloned: Linux 6.15.
bool overlay_takes_descriptors();

// Lets go of the layers' mounts that are kept for the next container.
void release_kept_layers();

// The mode that upper/ must have: overlayfs shows the root directory with the attributes of the topmost one.
mode_t root_mode(const Mount& mount);

// A tmpfs can hold an overlay's upper directory, in a user namespace too.
bool memory_holds_upper();

}  // namespace fastdock::rootfs
