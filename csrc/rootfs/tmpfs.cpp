#include "rootfs/tmpfs.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace fastdock::rootfs {
namespace {

Result<Fd> make_tmpfs(std::span<const ChildOption> options, const char* source, std::uint64_t attributes) {
  Fd context(static_cast<int>(::syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC)));
  if (!context) return failed(Operation::kCreateFilesystem, "tmpfs");
  (void)::syscall(SYS_fsconfig, context.get(), FSCONFIG_SET_STRING, "source", source, 0);
  for (const ChildOption& option : options) {
    unsigned command = option.value == nullptr ? FSCONFIG_SET_FLAG : FSCONFIG_SET_STRING;
    if (::syscall(SYS_fsconfig, context.get(), command, option.key, option.value, 0) != 0)
      return failed(Operation::kConfigureFilesystem, option.key);
  }
  if (::syscall(SYS_fsconfig, context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0)
    return failed(Operation::kCreateFilesystem, "tmpfs");
  Fd mount(static_cast<int>(::syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC, attributes)));
  if (!mount) return failed(Operation::kMountFilesystem, "tmpfs");
  return mount;
}

// What an id of the container is outside.
std::uint32_t outside(std::uint32_t id, const std::vector<IdMapping>& map) {
  for (const IdMapping& range : map)
    if (id >= range.inside && id - range.inside < range.count) return range.outside + (id - range.inside);
  return id;
}

struct Owner {
  uid_t uid;
  gid_t gid;
};

Owner owner(uid_t uid, gid_t gid, const IdMaps& maps) {
  return {outside(uid, maps.uids), outside(gid, maps.gids)};
}

Result<void> give(int directory, const std::string& name, Owner to) {
  if ((to.uid == 0 && to.gid == 0) ||
      ::fchownat(directory, name.c_str(), to.uid, to.gid, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) == 0)
    return {};
  return failed(Operation::kSetOwner, name);
}

Result<void> make_directory(int parent, const std::string& name, mode_t mode, Owner to) {
  if (::mkdirat(parent, name.c_str(), 0700) != 0) {
    if (errno == EEXIST) return {};
    return failed(Operation::kPrepareDirectory, name);
  }
  FASTDOCK_CHECK(give(parent, name, to));
  // chmod, because mkdir's mode passes the caller's umask.
  if (::fchmodat(parent, name.c_str(), mode, 0) != 0) return failed(Operation::kSetMode, name);
  return {};
}

std::string last_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// "/dev/null" is directly in "/dev", "/dev/net/tun" is not.
bool is_directly_in(const std::string& path, const std::string& directory) {
  std::string name = last_name(path);
  return path.size() == directory.size() + 1 + name.size() && path.starts_with(directory) &&
         path[directory.size()] == '/' && !name.empty() && name != "." && name != "..";
}

bool needs_directory(const Mount& mount) {
  struct stat status{};
  return mount.type != "bind" || mount.late_source ||
         (::stat(mount.source.c_str(), &status) == 0 && S_ISDIR(status.st_mode));
}

Result<void> make_device(int parent, const std::string& name, const Device& device, const IdMaps& maps) {
  dev_t number = makedev(device.major, device.minor);
  if (::mknodat(parent, name.c_str(), type_of(device), number) != 0)
    return failed(Operation::kCreateDevice, device.path);
  FASTDOCK_CHECK(give(parent, name, owner(device.uid, device.gid, maps)));
  if (::fchmodat(parent, name.c_str(), device.mode & 07777, 0) != 0)
    return failed(Operation::kSetMode, device.path);
  return {};
}

}  // namespace

mode_t type_of(const Device& device) {
  return device.kind == 'b' ? S_IFBLK : device.kind == 'p' ? S_IFIFO : S_IFCHR;
}

Result<Fd> memory_directory(mode_t root_mode, const IdMaps& maps) {
  constexpr ChildOption kMode{"mode", "755"};
  FASTDOCK_TRY(Fd mount, make_tmpfs({&kMode, 1}, "tmpfs", 0));
  FASTDOCK_CHECK(make_directory(mount.get(), "upper", root_mode, owner(0, 0, maps)));
  FASTDOCK_CHECK(make_directory(mount.get(), "work", 0755, owner(0, 0, maps)));
  return mount;
}

Contents contents_of(const Mount& mount, const std::vector<Device>& devices, const std::vector<Link>& links,
                     const std::vector<Mount>& mounts) {
  Contents contents;
  for (const Device& device : devices) {
    if (!is_directly_in(device.path, mount.destination)) continue;
    std::erase_if(contents.devices, [&](const Device* other) { return other->path == device.path; });
    contents.devices.push_back(&device);
  }
  for (const Link& link : links)
    if (is_directly_in(link.path, mount.destination)) contents.links.push_back(&link);
  for (const Mount& other : mounts)
    if (is_directly_in(other.destination, mount.destination) && needs_directory(other))
      contents.directories.push_back(last_name(other.destination));
  return contents;
}

bool can_be_filled(const Mount& mount, const IdMaps& maps) {
  if (mount.type != "tmpfs" || mount.copy_up || mount.keep_mode) return false;
  bool names_ids =
      mount.options.find("uid=") != std::string::npos || mount.options.find("gid=") != std::string::npos;
  auto maps_root = [](const std::vector<IdMapping>& map) {
    return map.empty() || std::ranges::any_of(map, [](const IdMapping& range) { return range.inside == 0; });
  };
  return !names_ids && maps_root(maps.uids) && maps_root(maps.gids);
}

Result<Fd> make_filled(std::span<const ChildOption> options, const char* source, std::uint64_t attributes,
                       const Contents& contents, const IdMaps& maps) {
  FASTDOCK_TRY(Fd mount, make_tmpfs(options, source, attributes));
  FASTDOCK_CHECK(give(mount.get(), "", owner(0, 0, maps)));
  for (const Device* device : contents.devices)
    FASTDOCK_CHECK(make_device(mount.get(), last_name(device->path), *device, maps));
  for (const Link* link : contents.links) {
    std::string name = last_name(link->path);
    if (::symlinkat(link->target.c_str(), mount.get(), name.c_str()) != 0) {
      if (errno == EEXIST) continue;  // a device of that name was asked for
      return failed(Operation::kCreateLink, link->path);
    }
    FASTDOCK_CHECK(give(mount.get(), name, owner(0, 0, maps)));
  }
  for (const std::string& name : contents.directories)
    FASTDOCK_CHECK(make_directory(mount.get(), name, 0755, owner(0, 0, maps)));
  return mount;
}

}  // namespace fastdock::rootfs
