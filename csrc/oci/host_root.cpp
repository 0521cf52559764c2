#include "oci/host_root.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <linux/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <memory>

#include "base/path.h"

namespace fastdock::oci {
namespace {

// <sys/mount.h> and <sys/stat.h> cannot be included beside <linux/mount.h> and <linux/stat.h>.
constexpr std::uint64_t kPrivate = 1U << 18;  // MS_PRIVATE
constexpr int kDetachNoFollow = 2 | 8;        // MNT_DETACH, UMOUNT_NOFOLLOW

std::string real_path(const std::string& path) {
  std::unique_ptr<char, decltype(&std::free)> found(::realpath(path.c_str(), nullptr), &std::free);
  return found ? found.get() : "";
}

// 36 35 98:0 /root /mount/point …
Result<bool> is_mounted(std::uint64_t id) {
  FASTDOCK_TRY(std::string mountinfo, read_file("/proc/self/mountinfo"));
  std::string_view rest = mountinfo;
  while (!rest.empty()) {
    std::uint64_t number = 0;
    std::from_chars(rest.data(), rest.data() + rest.size(), number);
    if (number == id) return true;
    rest.remove_prefix(std::min(rest.find('\n'), rest.size() - 1) + 1);
  }
  return false;
}

}  // namespace

bool is_on_host(const Config& config) {
  return config.plan.namespaces[static_cast<std::size_t>(launch::Namespace::kMount)].mode ==
         launch::NamespaceMode::kHost;
}

Result<HostRoot> HostRoot::make(const std::string& directory) {
  std::string real = real_path(directory);
  if (real.empty()) return failed(Operation::kOpenRoot, directory);
  if (real == "/")
    return failed_with(EINVAL, Operation::kOpenRoot,
                       "/: a container without a mount namespace would cover it");
  Fd mount(static_cast<int>(
      ::syscall(SYS_open_tree, AT_FDCWD, real.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE)));
  if (!mount) return failed(Operation::kOpenRoot, real, errno == EPERM ? Hint::kNeedsRoot : Hint::kNone);
  struct statx status{};
  if (::syscall(SYS_statx, mount.get(), "", AT_EMPTY_PATH, STATX_MNT_ID, &status) != 0 ||
      (status.stx_mask & STATX_MNT_ID) == 0)
    return failed(Operation::kInspectFile, real);
  return HostRoot(std::move(real), std::move(mount), status.stx_mnt_id);
}

Result<void> HostRoot::attach() {
  if (::syscall(SYS_move_mount, mount_.get(), "", AT_FDCWD, directory_.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0)
    return failed(Operation::kAttachMount, directory_);
  // Afterwards: what is attached to a shared mount is shared.
  mount_attr attributes{};
  attributes.propagation = kPrivate;
  if (::syscall(SYS_mount_setattr, mount_.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes,
                sizeof attributes) != 0)
    return failed(Operation::kSetPropagation, directory_);
  return {};
}

Result<void> detach_host_root(const State& state) {
  if (state.root_mount == 0) return {};
  const std::string directory = real_path(state.rootfs);
  // What was mounted over it since comes first: the container's own root, at least.
  while (true) {
    FASTDOCK_TRY(bool mounted, is_mounted(state.root_mount));
    if (!mounted) return {};
    if (::syscall(SYS_umount2, directory.c_str(), kDetachNoFollow) != 0)
      return failed(Operation::kDetachOldRoot, directory);
  }
}

std::string root_of(pid_t process) { return "/proc/" + std::to_string(process) + "/root"; }

}  // namespace fastdock::oci
