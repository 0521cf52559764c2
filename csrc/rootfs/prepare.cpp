#include "rootfs/prepare.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <map>
#include <mutex>

#include "rootfs/bind_inside.h"
#include "rootfs/id_map.h"
#include "rootfs/tmpfs.h"

namespace fastdock::rootfs {
namespace {

constexpr std::uint64_t kPrivate = 1 << 18;  // MS_PRIVATE; <sys/mount.h> clashes with <linux/mount.h>
constexpr std::size_t kMaximumLayers = 500;  // OVL_MAX_STACK, fs/overlayfs/params.h
constexpr std::size_t kMaximumCachedLayers = 512;

Result<Fd> clone_tree(const std::string& path, bool recursive, Operation operation, Hint hint) {
  unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0U);
  auto fd = static_cast<int>(::syscall(SYS_open_tree, AT_FDCWD, path.c_str(), flags));
  if (fd < 0) {
    if (errno == EPERM) hint = Hint::kNeedsRoot;
    if (errno == ENOSPC) hint = Hint::kNamespaceLimit;  // a detached tree has a mount namespace of its own
    bool telling = errno == ENOENT || errno == EPERM || errno == ENOTDIR || errno == ENOSPC;
    return failed(operation, path, telling ? hint : Hint::kNone);
  }
  return Fd(fd);
}

// mount_setattr(2): a new access time setting needs the old one cleared.
std::uint64_t cleared_by(std::uint64_t set) {
  return (set & MOUNT_ATTR__ATIME) != 0 ? std::uint64_t{MOUNT_ATTR__ATIME} : 0;
}

int set_attributes(int tree, std::uint64_t set, std::uint64_t clear, std::uint64_t propagation,
                   unsigned flags, int user_namespace = -1) {
  mount_attr attributes{};
  attributes.attr_set = set;
  attributes.attr_clr = clear | cleared_by(set);
  attributes.propagation = propagation;
  if (user_namespace >= 0) {
    attributes.attr_set |= MOUNT_ATTR_IDMAP;
    attributes.userns_fd = static_cast<std::uint64_t>(user_namespace);
  }
  return static_cast<int>(
      ::syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | flags, &attributes, sizeof attributes));
}

Result<Fd> clone_source(const Mount& mount) {
  return clone_tree(mount.source, mount.recursive, Operation::kOpenBindSource, Hint::kBindSourceMissing);
}

// What is to be made of a bind.  `set`: its attributes that can be set at once.
std::vector<MountChange> changes_of(const Mount& mount, std::uint64_t set) {
  std::vector<MountChange> changes;
  const std::uint64_t propagation = mount.propagation == 0 ? kPrivate : mount.propagation;
  if (!mount.recursive && (mount.recursive_set | mount.recursive_clear) == 0) {  // one mount, one call
    changes.push_back({set, mount.attributes_clear, mount.attributes_reset, propagation, false});
  } else {
    changes.push_back({0, 0, 0, propagation, mount.propagation_recursive});
    if ((set | mount.attributes_clear | mount.attributes_reset) != 0)
      changes.push_back({set, mount.attributes_clear, mount.attributes_reset, 0, false});
    if ((mount.recursive_set | mount.recursive_clear) != 0)
      changes.push_back({mount.recursive_set, mount.recursive_clear, 0, 0, true});
  }
  for (MountChange& change : changes) change.clear |= cleared_by(change.set);
  return changes;
}

Result<void> apply_changes(const Mount& mount, std::span<const MountChange> changes, int tree) {
  for (const MountChange& change : changes)
    if (long answer = change_mount(tree, change); answer < 0)
      return failed_with(static_cast<int>(-answer), Operation::kSetMountAttributes, mount.source);
  return {};
}

// Detached mounts of layers, read-only and with mapped ids, kept as patterns: each container gets a clone
// (Linux 6.15 clones detached mounts), which costs a tenth of making one.
class Layers {
 public:
  Result<Fd> get(const std::string& path, const IdMaps& maps) {
    FASTDOCK_TRY(auto pattern, find(path, maps));
    auto clone = static_cast<int>(
        ::syscall(SYS_open_tree, pattern->get(), "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH));
    if (clone < 0) return failed(Operation::kOpenLayer, path, Hint::kLayerUnreadable);
    return Fd(clone);
  }

  static Result<Fd> open_layer(const std::string& path, const IdMaps& maps) {
    FASTDOCK_TRY(Fd tree, open_unmapped(path));
    std::shared_ptr<Fd> mapping;
    if (!maps.empty()) {
      FASTDOCK_TRY(mapping, user_namespace(maps));
    }
    int answer = set_attributes(tree.get(), MOUNT_ATTR_RDONLY, 0, kPrivate, 0, mapping ? mapping->get() : -1);
    if (answer != 0) return failed(Operation::kMapLayer, path);
    return tree;
  }

  static Result<Fd> open_unmapped(const std::string& path) {
    return clone_tree(path, false, Operation::kOpenLayer, Hint::kLayerUnreadable);
  }

  void clear() {
    std::scoped_lock lock(mutex_);
    layers_.clear();
  }

 private:
  Result<std::shared_ptr<Fd>> find(const std::string& path, const IdMaps& maps) {
    std::scoped_lock lock(mutex_);
    if (pid_ != ::getpid()) layers_.clear(), pid_ = ::getpid();  // after fork: do not keep the parent's
    auto key = std::pair(path, maps);
    if (auto found = layers_.find(key); found != layers_.end()) {
      if (is_current(found->second->get(), path)) return found->second;
      layers_.erase(found);
    }
    FASTDOCK_TRY(Fd tree, open_layer(path, maps));
    if (layers_.size() >= kMaximumCachedLayers) layers_.clear();
    return layers_[key] = std::make_shared<Fd>(std::move(tree));
  }

  static bool is_current(int tree, const std::string& path) {
    struct stat kept{};
    struct stat now{};
    return ::fstat(tree, &kept) == 0 && ::stat(path.c_str(), &now) == 0 && kept.st_ino == now.st_ino &&
           kept.st_dev == now.st_dev;
  }

  std::mutex mutex_;
  std::map<std::pair<std::string, IdMaps>, std::shared_ptr<Fd>> layers_;
  pid_t pid_ = ::getpid();
};

Layers& layers() {
  static auto* instance = new Layers;
  return *instance;
}

bool release_at_least(int major, int minor) {
  utsname name{};
  int have_major = 0;
  int have_minor = 0;
  if (::uname(&name) != 0 || std::sscanf(name.release, "%d.%d", &have_major, &have_minor) != 2) return false;
  return std::pair(have_major, have_minor) >= std::pair(major, minor);
}

}  // namespace

void release_kept_layers() { layers().clear(); }

mode_t root_mode(const Mount& mount) {
  struct stat status{};
  if (mount.layers.empty() || ::stat(mount.layers.back().c_str(), &status) != 0) return 0755;
  return status.st_mode & 07777;
}

bool overlay_takes_descriptors() {
  // By the version: to try it is a mount.  Descriptors as layers came with 6.13, clones of detached mounts,
  // which this goes with (Layers), with 6.15.
  static const bool answer = release_at_least(6, 15);
  return answer;
}

bool memory_holds_upper() {
  // tmpfs has user.* extended attributes, which an overlay in a user namespace needs, since Linux 6.6.
  static const bool answer = release_at_least(6, 6);
  return answer;
}

Result<ChildMount> PreparedRoot::add(const Mount& mount, const IdMaps& maps, bool is_root) {
  ChildMount child;
  child.type = mount.type.c_str();
  child.source = mount.source.empty() ? mount.type.c_str() : mount.source.c_str();
  child.destination = mount.destination.c_str();
  child.attributes = mount.attributes_set;
  child.copy_up = mount.copy_up;
  child.keep_mode = mount.keep_mode;
  // Mount points and devices are made in these first.
  child.late_read_only = (is_root || mount.type == "tmpfs") && (child.attributes & MOUNT_ATTR_RDONLY) != 0;
  if (child.late_read_only) child.attributes &= ~static_cast<std::uint64_t>(MOUNT_ATTR_RDONLY);
  if (mount.type == "bind") {
    FASTDOCK_CHECK(add_bind(mount, maps, child));
  } else {
    add_options(mount.options, child);
    if (mount.type == "overlay") FASTDOCK_CHECK(add_overlay(mount, maps, child, is_root));
  }
  return child;
}

Result<ChildMount> PreparedRoot::add_filled(const Mount& mount, const Contents& contents,
                                            const IdMaps& maps) {
  FASTDOCK_TRY(ChildMount child, add(mount, maps));
  auto made = make_filled(child.options, child.source, child.attributes, contents, maps);
  if (!made) return std::unexpected(made.error());
  child.kind = ChildMountKind::kBind;
  child.tree = keep(std::move(*made));
  return child;
}

Result<void> PreparedRoot::map_bind(const Mount& mount, const IdMaps& maps, int tree) {
  const unsigned recursive = mount.recursive && mount.map_ids_below ? AT_RECURSIVE : 0;
  if (mount.id_maps.empty() && user_namespace_ >= 0) {
    if (set_attributes(tree, 0, 0, 0, recursive, user_namespace_) == 0) return {};
    return failed(Operation::kMapBindSource, mount.source);
  }
  const IdMaps& wanted = mount.id_maps.empty() ? maps : mount.id_maps;
  if (wanted.empty()) return {};
  if (mount.id_maps.empty()) {
    FASTDOCK_TRY(bool late, maps_late(maps));
    if (late) return late_.push_back({tree, &mount.source, false, recursive != 0}), Result<void>{};
  }
  FASTDOCK_TRY(auto mapping, user_namespace(wanted));
  if (set_attributes(tree, 0, 0, 0, recursive, mapping->get()) == 0) return {};
  // EINVAL: a file system without FS_ALLOW_IDMAP.  Asked for by name it is an error, by default it is
  // noted.
  if (!mount.id_maps.empty() || errno != EINVAL) return failed(Operation::kMapBindSource, mount.source);
  unmapped_.push_back(mount.source);
  return {};
}

Result<void> PreparedRoot::add_bind(const Mount& mount, const IdMaps& maps, ChildMount& child) {
  const std::vector<MountChange>& changes = changes_.emplace_back(changes_of(mount, child.attributes));
  child.changes = changes;
  child.recursive = mount.recursive;
  if (!mount.inside.empty()) {
    child.kind = ChildMountKind::kBindInside;
    child.inside = mount.inside.c_str();
    child.map_ids = mount.map_ids;
    return {};
  }
  child.kind = ChildMountKind::kBind;
  if (mount.late_source) return {};
  FASTDOCK_TRY(Fd tree, clone_source(mount));
  struct stat status{};
  if (::fstat(tree.get(), &status) != 0) return failed(Operation::kOpenBindSource, mount.source);
  child.onto_directory = S_ISDIR(status.st_mode);
  if (mount.map_ids) FASTDOCK_CHECK(map_bind(mount, maps, tree.get()));
  FASTDOCK_CHECK(apply_changes(mount, changes, tree.get()));
  child.tree = keep(std::move(tree));
  return {};
}

// Asked once for each start: a second layer is not a second time.
Result<bool> PreparedRoot::maps_late(const IdMaps& maps) {
  if (!may_map_late_ || maps.empty()) return false;
  if (!maps_late_) {
    FASTDOCK_TRY(auto kept, user_namespace_if_again(maps));
    maps_late_ = kept == nullptr;
  }
  return *maps_late_;
}

Result<Fd> PreparedRoot::open_layer(const std::string& path, const IdMaps& maps) {
  FASTDOCK_TRY(bool late, maps_late(maps));
  if (late) {
    FASTDOCK_TRY(Fd tree, Layers::open_unmapped(path));
    late_.push_back({tree.get(), &path, true, false});
    return tree;
  }
  return overlay_takes_descriptors() ? layers().get(path, maps) : Layers::open_layer(path, maps);
}

Result<void> PreparedRoot::map_ids_late(int user_namespace) {
  for (const Late& each : late_) {
    const std::uint64_t set = each.is_layer ? MOUNT_ATTR_RDONLY : 0;
    const std::uint64_t propagation = each.is_layer ? kPrivate : 0;
    const unsigned recursive = each.recursive ? AT_RECURSIVE : 0;
    if (set_attributes(each.tree, set, 0, propagation, recursive, user_namespace) == 0) continue;
    if (each.is_layer) return failed(Operation::kMapLayer, *each.source);
    if (errno != EINVAL) return failed(Operation::kMapBindSource, *each.source);
    unmapped_.push_back(*each.source);  // a file system without FS_ALLOW_IDMAP
  }
  return {};
}

Result<void> PreparedRoot::add_overlay(const Mount& mount, const IdMaps& maps, ChildMount& child,
                                       bool is_root) {
  child.kind = ChildMountKind::kOverlay;
  if (mount.layers.size() > kMaximumLayers)
    return failed_with(EINVAL, Operation::kConfigureOverlay, std::to_string(mount.layers.size()) + " layers",
                       Hint::kTooManyLayers);
  std::vector<int>& numbers = layers_.emplace_back();
  for (auto layer = mount.layers.rbegin(); layer != mount.layers.rend(); ++layer) {
    FASTDOCK_TRY(Fd tree, open_layer(*layer, maps));
    numbers.push_back(keep(std::move(tree)));
  }
  child.layers = numbers;
  if (mount.in_memory) {
    FASTDOCK_TRY(Fd tree, memory_directory(root_mode(mount), maps));
    child.tree = tree.get();
    if (is_root)
      memory_ = std::move(tree);
    else
      keep(std::move(tree));
  } else if (!mount.directory.empty()) {
    FASTDOCK_TRY(Fd tree, clone_tree(mount.directory, false, Operation::kPrepareDirectory, Hint::kNone));
    if (set_attributes(tree.get(), 0, 0, kPrivate, 0) != 0)
      return failed(Operation::kSetMountAttributes, mount.directory);
    child.tree = keep(std::move(tree));
  }
  return {};
}

void PreparedRoot::add_options(const std::string& options, ChildMount& child) {
  child.joined_options = options.c_str();
  std::vector<ChildOption>& parsed = options_.emplace_back();
  for (std::size_t at = 0; at < options.size();) {
    std::size_t end = std::min(options.find(',', at), options.size());
    std::string& word = texts_.emplace_back(options.substr(at, end - at));
    at = end + 1;
    if (word.empty()) continue;
    std::size_t equals = word.find('=');
    const char* value = nullptr;
    if (equals != std::string::npos && equals != 0) {
      word[equals] = '\0';
      value = word.c_str() + equals + 1;
    }
    parsed.push_back({word.c_str(), value});
  }
  child.options = parsed;
}

Result<void> map_ids_of(const Mount& mount, int tree, int user_namespace_of_none) {
  std::shared_ptr<Fd> mapping;
  if (!mount.id_maps.empty()) {
    FASTDOCK_TRY(mapping, user_namespace(mount.id_maps));
  }
  const unsigned recursive = mount.recursive && mount.map_ids_below ? AT_RECURSIVE : 0;
  if (set_attributes(tree, 0, 0, 0, recursive, mapping ? mapping->get() : user_namespace_of_none) == 0)
    return {};
  return failed(Operation::kMapBindSource, mount.source);
}

Result<std::vector<Fd>> open_late_sources(const std::vector<Mount>& mounts) {
  std::vector<Fd> trees;
  for (const Mount& mount : mounts) {
    if (!mount.late_source) continue;
    FASTDOCK_TRY(Fd tree, clone_source(mount));
    FASTDOCK_CHECK(apply_changes(mount, changes_of(mount, mount.attributes_set), tree.get()));
    trees.push_back(std::move(tree));
  }
  return trees;
}

int PreparedRoot::keep(Fd fd) { return descriptors_.emplace_back(std::move(fd)).get(); }

}  // namespace fastdock::rootfs
