#include "rootfs/view.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "rootfs/id_map.h"
#include "rootfs/prepare.h"

namespace fastdock::rootfs {
namespace {

Result<Fd> mapped_layer(const std::string& path, const IdMaps& maps) {
  Fd tree(static_cast<int>(::syscall(SYS_open_tree, AT_FDCWD, path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)));
  if (!tree) return failed(Operation::kOpenLayer, path, Hint::kLayerUnreadable);
  FASTDOCK_TRY(auto mapping, user_namespace(maps));
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_RDONLY;
  attributes.userns_fd = static_cast<std::uint64_t>(mapping->get());
  if (::syscall(SYS_mount_setattr, tree.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0)
    return failed(Operation::kMapLayer, path);
  return tree;
}

Result<void> set(int context, const char* key, const std::string& value) {
  if (::syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, key, value.c_str(), 0) == 0) return {};
  return failed(Operation::kConfigureFilesystem, value);
}

Result<void> add_layers(int context, const std::vector<std::string>& layers, const IdMaps& maps, std::vector<Fd>& kept) {
  // overlay: the uppermost first.
  for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer) {
    if (maps.empty()) {
      FASTDOCK_CHECK(set(context, "lowerdir+", *layer));
      continue;
    }
    FASTDOCK_TRY(Fd tree, mapped_layer(*layer, maps));
    if (::syscall(SYS_fsconfig, context, FSCONFIG_SET_FD, "lowerdir+", nullptr, tree.get()) != 0)
      return failed(Operation::kConfigureFilesystem, *layer, Hint::kKernelTooOld);
    kept.push_back(std::move(tree));
  }
  return {};
}

}  // namespace

Result<Fd> open_view(const std::vector<std::string>& layers, const std::string& directory, const IdMaps& maps) {
  if (!maps.empty() && !overlay_takes_descriptors())
    return failed_with(EINVAL, Operation::kMountOverlay, directory, Hint::kKernelTooOld);
  if (directory.empty() && layers.size() == 1) {  // overlayfs wants two
    Fd tree(static_cast<int>(::syscall(SYS_open_tree, AT_FDCWD, layers[0].c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)));
    if (!tree) return failed(Operation::kOpenLayer, layers[0], Hint::kLayerUnreadable);
    return tree;
  }
  Fd context(static_cast<int>(::syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC)));
  if (!context) return failed(Operation::kCreateOverlay);
  std::vector<Fd> kept;
  FASTDOCK_CHECK(add_layers(context.get(), layers, maps, kept));
  if (!directory.empty()) {
    FASTDOCK_CHECK(set(context.get(), "upperdir", directory + "/upper"));
    FASTDOCK_CHECK(set(context.get(), "workdir", directory + "/work"));
  }
  // As the container mounts it: its whiteouts and opaque marks are in user.* attributes.
  if (!maps.empty() && ::syscall(SYS_fsconfig, context.get(), FSCONFIG_SET_FLAG, "userxattr", nullptr, 0) != 0)
    return failed(Operation::kConfigureFilesystem, "userxattr");
  if (::syscall(SYS_fsconfig, context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0)
    return failed(Operation::kMountOverlay, directory);
  Fd mount(static_cast<int>(::syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC, MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID)));
  if (!mount) return failed(Operation::kMountOverlay, directory);
  return mount;
}

}  // namespace fastdock::rootfs
