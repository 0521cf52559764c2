#include "rootfs/child_root.h"

#include <linux/mount.h>
#include <sys/sysmacros.h>

#include "rootfs/bind_inside.h"
#include "rootfs/copy_tree.h"
#include "rootfs/mount_point.h"

namespace fastdock::rootfs {
namespace {

using child::check;
using child::Descriptor;
using child::fail;
using child::Failure;
using child::open_in_root;

// umount2(2); <sys/mount.h> cannot be included beside <linux/mount.h>.
constexpr int kDetach = 2;
constexpr unsigned long kBarren = 1 | 2 | 4 | 8;  // MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC

long open_tree_of(int fd, const char* path, std::uint32_t flags) {
  return raw_syscall(SYS_open_tree, fd, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags);
}

long move_to(int mount, int target) {
  return raw_syscall(SYS_move_mount, mount, "", target, "",
                     MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

// `mode`: of the root directory, in the options' words; null: as they say.
int mount_filesystem(const ChildMount& mount, Failure& failure, const char* mode = nullptr) {
  Descriptor context(raw_syscall(SYS_fsopen, mount.type, FSOPEN_CLOEXEC));
  if (!check(context.get(), failure, Operation::kCreateFilesystem, mount.type)) return -1;
  raw_syscall(SYS_fsconfig, context.get(), FSCONFIG_SET_STRING, "source", mount.source, 0);
  for (const ChildOption& option : mount.options) {
    unsigned command = option.value == nullptr ? FSCONFIG_SET_FLAG : FSCONFIG_SET_STRING;
    long answer = raw_syscall(SYS_fsconfig, context.get(), command, option.key, option.value, 0);
    if (!check(answer, failure, Operation::kConfigureFilesystem, option.key)) return -1;
  }
  if (mode != nullptr) raw_syscall(SYS_fsconfig, context.get(), FSCONFIG_SET_STRING, "mode", mode, 0);
  long created = raw_syscall(SYS_fsconfig, context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0);
  if (!check(created, failure, Operation::kCreateFilesystem, mount.type)) return -1;
  long mounted = raw_syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC, mount.attributes);
  if (!check(mounted, failure, Operation::kMountFilesystem, mount.type)) return -1;
  return static_cast<int>(mounted);
}

// Overlayfs takes layers only from mount namespaces that the mounter rules (clone_private_mount), so the
// detached mounts are attached first, one on the other: nobody looks at them there, and they go with the
// old root.
bool attach_layers(const ChildMount& mount, const char* attach_point, Failure& failure) {
  Descriptor target(raw_syscall(SYS_openat, AT_FDCWD, attach_point, O_PATH | O_DIRECTORY | O_CLOEXEC, 0));
  if (!check(target.get(), failure, Operation::kOpenMountPoint, attach_point)) return false;
  for (int layer : mount.layers)
    if (!check(move_to(layer, target.get()), failure, Operation::kAttachMount, "layer")) return false;
  return mount.tree < 0 ||
         check(move_to(mount.tree, target.get()), failure, Operation::kAttachMount, "upper");
}

// The layers, upper/ and work/ are given as descriptors: no 4 KiB limit on their number, and no path that
// could be exchanged.
int mount_overlay(const ChildMount& mount, const char* attach_point, Failure& failure) {
  if (!attach_layers(mount, attach_point, failure)) return -1;
  Descriptor context(raw_syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC));
  if (!check(context.get(), failure, Operation::kCreateOverlay, mount.destination)) return -1;
  raw_syscall(SYS_fsconfig, context.get(), FSCONFIG_SET_STRING, "source", mount.source, 0);
  for (int layer : mount.layers) {
    long answer = raw_syscall(SYS_fsconfig, context.get(), FSCONFIG_SET_FD, "lowerdir+", nullptr, layer);
    Hint hint = answer == -EINVAL ? Hint::kTooManyLayers : Hint::kNone;
    if (!check(answer, failure, Operation::kConfigureOverlay, "lowerdir+", hint)) return -1;
  }
  if (mount.tree >= 0) {
    for (const char* name : {"upper", "work"}) {
      Descriptor directory(raw_syscall(SYS_openat, mount.tree, name, O_PATH | O_DIRECTORY | O_CLOEXEC, 0));
      if (!check(directory.get(), failure, Operation::kOpenFile, name)) return -1;
      const char* key = name[0] == 'u' ? "upperdir" : "workdir";
      long answer = raw_syscall(SYS_fsconfig, context.get(), FSCONFIG_SET_FD, key, nullptr, directory.get());
      if (!check(answer, failure, Operation::kConfigureOverlay, key)) return -1;
    }
  }
  for (const ChildOption& option : mount.options) {
    unsigned command = option.value == nullptr ? FSCONFIG_SET_FLAG : FSCONFIG_SET_STRING;
    long answer = raw_syscall(SYS_fsconfig, context.get(), command, option.key, option.value, 0);
    if (!check(answer, failure, Operation::kConfigureOverlay, option.key)) return -1;
  }
  long created = raw_syscall(SYS_fsconfig, context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0);
  if (!check(created, failure, Operation::kMountOverlay, mount.destination)) return -1;
  long mounted = raw_syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC, mount.attributes);
  if (!check(mounted, failure, Operation::kMountOverlay, mount.destination)) return -1;
  return static_cast<int>(mounted);
}

char* append(char* at, const char* text) {
  while (*text != '\0') *at++ = *text++;
  *at = '\0';
  return at;
}

char* append_number(char* at, unsigned number) {
  char digits[12];
  int count = 0;
  do {
    digits[count++] = static_cast<char>('0' + number % 10);
    number /= 10;
  } while (number != 0);
  while (count > 0) *at++ = digits[--count];
  *at = '\0';
  return at;
}

// Before Linux 6.13 overlayfs takes no descriptors, and its options must fit one page.  So the layers are
// attached below a tmpfs, and named "0:1:2": 500 names are 2 KiB.
int mount_overlay_by_name(const ChildMount& mount, const char* attach_point, Failure& failure) {
  ChildMount scaffold{};
  scaffold.type = "tmpfs";
  scaffold.source = "tmpfs";
  Descriptor base(mount_filesystem(scaffold, failure));
  if (!base.ok()) return -1;
  Descriptor target(raw_syscall(SYS_openat, AT_FDCWD, attach_point, O_PATH | O_DIRECTORY | O_CLOEXEC, 0));
  if (!check(target.get(), failure, Operation::kOpenMountPoint, attach_point)) return -1;
  if (!check(move_to(base.get(), target.get()), failure, Operation::kAttachMount, attach_point)) return -1;
  char options[4096];
  char* end = append(options, mount.joined_options);
  end = append(end, mount.joined_options[0] == '\0' ? "lowerdir=" : ",lowerdir=");
  unsigned number = 0;
  for (int layer : mount.layers) {
    if (end - options > 4000)
      return fail(failure, -E2BIG, Operation::kMountOverlay, "", Hint::kTooManyLayers), -1;
    if (number > 0) end = append(end, ":");
    char* name = end;
    end = append_number(end, number++);
    raw_syscall(SYS_mkdirat, base.get(), name, 0755);
    Descriptor point(raw_syscall(SYS_openat, base.get(), name, O_PATH | O_DIRECTORY | O_CLOEXEC, 0));
    if (!check(point.get(), failure, Operation::kOpenMountPoint, name)) return -1;
    if (!check(move_to(layer, point.get()), failure, Operation::kAttachMount, "layer")) return -1;
  }
  if (mount.tree >= 0) {
    raw_syscall(SYS_mkdirat, base.get(), "c", 0755);
    Descriptor point(raw_syscall(SYS_openat, base.get(), "c", O_PATH | O_DIRECTORY | O_CLOEXEC, 0));
    if (!check(point.get(), failure, Operation::kOpenMountPoint, "c")) return -1;
    if (!check(move_to(mount.tree, point.get()), failure, Operation::kAttachMount, "upper")) return -1;
    append(end, ",upperdir=c/upper,workdir=c/work");
  }
  raw_syscall(SYS_mkdirat, base.get(), "root", 0755);
  if (!check(raw_syscall(SYS_fchdir, base.get()), failure, Operation::kChangeDirectory, attach_point))
    return -1;
  long answer = raw_syscall(SYS_mount, mount.source, "root", "overlay", 0, options);
  if (!check(answer, failure, Operation::kMountOverlay, mount.destination)) return -1;
  long opened = raw_syscall(SYS_openat, base.get(), "root", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
  if (!check(opened, failure, Operation::kOpenRoot, mount.destination)) return -1;
  mount_attr attributes{};
  attributes.attr_set = mount.attributes;
  answer = raw_syscall(SYS_mount_setattr, opened, "", AT_EMPTY_PATH, &attributes, sizeof attributes);
  if (!check(answer, failure, Operation::kSetMountAttributes, mount.destination)) return -1;
  // A clone takes it out of the scaffold, which then goes with the old root.
  long clone = open_tree_of(static_cast<int>(opened), "", AT_EMPTY_PATH);
  child::close(static_cast<int>(opened));
  if (!check(clone, failure, Operation::kMountOverlay, mount.destination)) return -1;
  raw_syscall(SYS_chdir, "/");
  return static_cast<int>(clone);
}

int make_mount(const ChildMount& mount, const ChildRoot& plan, Failure& failure) {
  switch (mount.kind) {
    case ChildMountKind::kBind:
      return mount.tree;
    case ChildMountKind::kOverlay:
      return plan.overlay_takes_descriptors ? mount_overlay(mount, plan.attach_point, failure)
                                            : mount_overlay_by_name(mount, plan.attach_point, failure);
    case ChildMountKind::kBindInside:  // add_mounts()
    case ChildMountKind::kFilesystem:
      break;
  }
  return mount_filesystem(mount, failure);
}

// Overlays below the root, made before the root is attached: what they are made of is attached at the same
// point, and must stay below the root.  On top of it, it would be what setns(2) takes for the root directory
// of this mount namespace (mntns_install follows all mounts at "/"), and every exec would land in a layer.
struct Overlays {
  static constexpr int kMaximum = 32;
  int made[kMaximum];
  int count = 0;
};

bool make_overlays(const ChildRoot& plan, Overlays& overlays, Failure& failure) {
  for (const ChildMount& mount : plan.mounts) {
    if (mount.kind != ChildMountKind::kOverlay) continue;
    if (overlays.count == Overlays::kMaximum)
      return fail(failure, -E2BIG, Operation::kMountOverlay, mount.destination, Hint::kTooManyLayers);
    int made = make_mount(mount, plan, failure);
    if (made < 0) return false;
    overlays.made[overlays.count++] = made;
  }
  return true;
}

// A tmpfs with the mode of the directory that it will cover, where that is there already.
int mount_with_covered_mode(const ChildMount& mount, int root, Failure& failure) {
  Descriptor covered(open_in_root(root, mount.destination, O_PATH));
  if (!covered.ok()) return mount_filesystem(mount, failure);
  struct stat status{};
  if (!check(child::status_of(covered.get(), status), failure, Operation::kInspectFile, mount.destination))
    return -1;
  const char mode[] = {static_cast<char>('0' + (status.st_mode >> 9 & 7)),
                       static_cast<char>('0' + (status.st_mode >> 6 & 7)),
                       static_cast<char>('0' + (status.st_mode >> 3 & 7)),
                       static_cast<char>('0' + (status.st_mode & 7)), '\0'};
  return mount_filesystem(mount, failure, mode);
}

bool add_mounts(const ChildRoot& plan, const Overlays& overlays, int root, IdMapper mapper, int& proc,
                Failure& failure) {
  int overlay = 0;
  for (std::size_t number = 0; number < plan.mounts.size(); ++number) {
    ChildMount& mount = plan.mounts[number];
    bool ready = mount.kind == ChildMountKind::kOverlay;
    bool inside = mount.kind == ChildMountKind::kBindInside;
    int made = ready             ? overlays.made[overlay++]
               : inside          ? bind_inside(plan.mounts, number, root, mapper, failure)
               : mount.keep_mode ? mount_with_covered_mode(mount, root, failure)
                                 : make_mount(mount, plan, failure);
    if (made < 0) return false;
    mount.tree = made;
    bool of_kernel = child::equal(mount.type, "proc") || child::equal(mount.type, "sysfs");
    Descriptor target(of_kernel ? open_plain_directory(root, mount.destination, failure)
                                : open_or_create(root, mount.destination, mount.onto_directory, failure));
    if (!target.ok()) return false;
    if (mount.copy_up && !copy_tree(target.get(), made, mount.destination, failure)) return false;
    if (!check(move_to(made, target.get()), failure, Operation::kAttachMount, mount.destination))
      return false;
    if (proc < 0 && child::equal(mount.type, "proc")) proc = made;  // stays open: our own door to procfs
  }
  return true;
}

bool add_device(const ChildDevice& device, int root, Failure& failure) {
  if (device.host_path == nullptr) {
    const char* name = nullptr;
    Descriptor parent(open_parent(root, device.path, name, failure));
    if (!parent.ok()) return false;
    // No umask and no exchange between the two calls: the directory is ours, and nothing else runs in it yet.
    long made = raw_syscall(SYS_mknodat, parent.get(), name, device.mode, device.number);
    if (!check(made, failure, Operation::kCreateDevice, device.path)) return false;
    long owned = raw_syscall(SYS_fchownat, parent.get(), name, device.uid, device.gid, AT_SYMLINK_NOFOLLOW);
    if (!check(owned, failure, Operation::kSetOwner, device.path)) return false;
    return true;
  }
  Descriptor node(open_tree_of(AT_FDCWD, device.host_path, 0));
  if (!check(node.get(), failure, Operation::kCreateDevice, device.host_path)) return false;
  Descriptor target(open_or_create(root, device.path, false, failure));
  if (!target.ok()) return false;
  return check(move_to(node.get(), target.get()), failure, Operation::kAttachMount, device.path);
}

bool add_link(const ChildLink& link, int root, Failure& failure) {
  const char* name = nullptr;
  Descriptor parent(open_parent(root, link.path, name, failure));
  if (!parent.ok()) return false;
  long answer = raw_syscall(SYS_symlinkat, link.target, parent.get(), name);
  return answer == -EEXIST || check(answer, failure, Operation::kCreateLink, link.path);
}

// A descriptor of the host's /dev/null that is sure to be it (CVE-2025-31133).
int open_null(Failure& failure) {
  long null = raw_syscall(SYS_openat, AT_FDCWD, "/dev/null", O_PATH | O_CLOEXEC, 0);
  if (!check(null, failure, Operation::kOpenFile, "/dev/null")) return -1;
  struct stat status{};
  if (!check(child::status_of(static_cast<int>(null), status), failure, Operation::kInspectFile, "/dev/null"))
    return -1;
  if (!S_ISCHR(status.st_mode) || status.st_rdev != makedev(1, 3)) {
    fail(failure, -ENODEV, Operation::kMaskPath, "/dev/null");
    return -1;
  }
  return static_cast<int>(null);
}

// What masked paths are covered with; the empty directory is made when the first one needs it.
struct Covers {
  int null;
  Descriptor empty{-1};
};

bool open_empty(Covers& covers, Failure& failure) {
  if (covers.empty.ok()) return true;
  ChildMount empty{};
  empty.type = "tmpfs";
  empty.source = "tmpfs";
  empty.attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  return covers.empty.take(mount_filesystem(empty, failure));
}

bool mask(const char* path, int root, Covers& covers, Failure& failure) {
  Descriptor target(open_in_root(root, path, O_PATH));
  if (!target.ok())
    return target.get() == -ENOENT || target.get() == -ENOTDIR ||
           fail(failure, target.get(), Operation::kMaskPath, path);
  struct stat status{};
  if (!check(child::status_of(target.get(), status), failure, Operation::kInspectFile, path)) return false;
  if (!S_ISDIR(status.st_mode)) {
    Descriptor cover(open_tree_of(covers.null, "", AT_EMPTY_PATH));
    return check(cover.get(), failure, Operation::kMaskPath, path) &&
           check(move_to(cover.get(), target.get()), failure, Operation::kMaskPath, path);
  }
  bool first = !covers.empty.ok();
  if (!open_empty(covers, failure)) return false;
  if (first) return check(move_to(covers.empty.get(), target.get()), failure, Operation::kMaskPath, path);
  Descriptor cover(open_tree_of(covers.empty.get(), "", AT_EMPTY_PATH));
  return check(cover.get(), failure, Operation::kMaskPath, path) &&
         check(move_to(cover.get(), target.get()), failure, Operation::kMaskPath, path);
}

bool make_read_only(const char* path, int root, Failure& failure) {
  Descriptor target(open_in_root(root, path, O_PATH));
  if (!target.ok())
    return target.get() == -ENOENT || target.get() == -ENOTDIR ||
           fail(failure, target.get(), Operation::kMakeReadOnly, path);
  Descriptor tree(open_tree_of(target.get(), "", AT_EMPTY_PATH | AT_RECURSIVE));
  if (!check(tree.get(), failure, Operation::kMakeReadOnly, path)) return false;
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  long answer = raw_syscall(SYS_mount_setattr, tree.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes,
                            sizeof attributes);
  return check(answer, failure, Operation::kMakeReadOnly, path) &&
         check(move_to(tree.get(), target.get()), failure, Operation::kMakeReadOnly, path);
}

int build_root_unmasked(const ChildRoot& plan, IdMapper mapper, int& proc, Failure& failure) {
  // mount_namespaces(7): nothing of what follows may propagate to the host.
  if (plan.old_root_propagation != 0 &&
      !check(raw_syscall(SYS_mount, nullptr, "/", nullptr, plan.old_root_propagation, nullptr), failure,
             Operation::kSetPropagation, "/"))
    return -1;
  int root = make_mount(plan.root, plan, failure);
  if (root < 0) return -1;
  Overlays overlays;
  if (!make_overlays(plan, overlays, failure)) return -1;
  Descriptor target(
      raw_syscall(SYS_openat, AT_FDCWD, plan.attach_point, O_PATH | O_DIRECTORY | O_CLOEXEC, 0));
  if (!check(target.get(), failure, Operation::kOpenMountPoint, plan.attach_point)) return -1;
  if (!check(move_to(root, target.get()), failure, Operation::kAttachMount, plan.attach_point)) return -1;
  if (!add_mounts(plan, overlays, root, mapper, proc, failure)) return -1;
  for (const ChildDevice& device : plan.devices)
    if (!add_device(device, root, failure)) return -1;
  for (const ChildLink& link : plan.links)
    if (!add_link(link, root, failure)) return -1;
  return root;
}

}  // namespace

int build_root(const ChildRoot& plan, IdMapper mapper, int& proc, Failure& failure) {
  // mknod(2): devices have exactly the mode that the plan says.
  long mask = raw_syscall(SYS_umask, 0);
  int root = build_root_unmasked(plan, mapper, proc, failure);
  raw_syscall(SYS_umask, mask);
  return root;
}

bool finish_root(const ChildRoot& plan, int root, Failure& failure) {
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  for (const ChildMount& mount : plan.mounts) {
    if (!mount.late_read_only) continue;
    long answer =
        raw_syscall(SYS_mount_setattr, mount.tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes);
    if (!check(answer, failure, Operation::kMakeReadOnly, mount.destination)) return false;
  }
  if (!plan.root.late_read_only) return true;
  long answer = raw_syscall(SYS_mount_setattr, root, "", AT_EMPTY_PATH, &attributes, sizeof attributes);
  return check(answer, failure, Operation::kMakeReadOnly, "/");
}

bool protect_paths(const ChildRoot& plan, int root, Failure& failure) {
  for (const char* path : plan.read_only_paths)
    if (!make_read_only(path, root, failure)) return false;
  if (plan.masked_paths.empty()) return true;
  Descriptor null(open_null(failure));
  if (!null.ok()) return false;
  Covers covers{null.get()};
  for (const char* path : plan.masked_paths)
    if (!mask(path, root, covers, failure)) return false;
  return true;
}

bool enter_root(int root, RootChange change, std::span<const char* const> bare, Failure& failure) {
  // EINVAL: locked, since a more privileged mount namespace handed it down.  Then it is covered.
  for (const char* path : change == RootChange::kMove ? bare : std::span<const char* const>())
    if (raw_failed(raw_syscall(SYS_umount2, path, kDetach)))
      raw_syscall(SYS_mount, "tmpfs", path, "tmpfs", kBarren, "size=0");
  if (!check(raw_syscall(SYS_fchdir, root), failure, Operation::kChangeRoot, "/")) return false;
  if (change != RootChange::kPivot) {
    constexpr unsigned long kMove = 8192;  // MS_MOVE
    return (change == RootChange::kChroot || check(raw_syscall(SYS_mount, ".", "/", nullptr, kMove, nullptr),
                                                   failure, Operation::kChangeRoot, "/")) &&
           check(raw_syscall(SYS_chroot, "."), failure, Operation::kChangeRoot, "/") &&
           check(raw_syscall(SYS_chdir, "/"), failure, Operation::kChangeDirectory, "/");
  }
  // pivot_root(2), "pivot_root(".", ".")": the old root ends up on top of the new one and is detached.
  return check(raw_syscall(SYS_pivot_root, ".", "."), failure, Operation::kChangeRoot, "/") &&
         check(raw_syscall(SYS_umount2, ".", kDetach), failure, Operation::kDetachOldRoot, "/") &&
         check(raw_syscall(SYS_chdir, "/"), failure, Operation::kChangeDirectory, "/");
}

int open_private_proc(Failure& failure) {
  ChildMount proc{};
  proc.type = "proc";
  proc.source = "proc";
  return mount_filesystem(proc, failure);
}

}  // namespace fastdock::rootfs
