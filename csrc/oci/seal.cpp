#include "oci/seal.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "base/path.h"
#include "base/sealed.h"
#include "launch/helper.h"

namespace fastdock::oci {
namespace {

// Memory with every seal, or a read-only mount.
bool is_sealed(int executable) {
  constexpr int kSeals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
  int seals = ::fcntl(executable, F_GET_SEALS);
  if (seals >= 0 && (seals & kSeals) == kSeals) return true;
  struct statvfs status {};
  return ::fstatvfs(executable, &status) == 0 && (status.f_flag & ST_RDONLY) != 0;
}

// A private, read-only view of the file.  When the descriptor closes, at execve, the mount belongs to no
// namespace any more, and no one can make it writable again (mount_setattr(2): EINVAL).
Fd read_only_view() {
  Fd tree(static_cast<int>(::syscall(SYS_open_tree, AT_FDCWD, "/proc/self/exe", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)));
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  if (tree && ::syscall(SYS_mount_setattr, tree.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0)
    tree.reset();
  return tree;
}

Result<Fd> copy_in_memory(int executable) {
  FASTDOCK_TRY(std::string bytes, read_all(executable, "/proc/self/exe"));
  return sealed_memory("fastdock-oci", std::as_bytes(std::span(bytes)));
}

}  // namespace

Result<void> run_sealed(char** argv) {
  FASTDOCK_TRY(Fd executable, open_file("/proc/self/exe", O_RDONLY));
  if (!is_sealed(executable.get())) {
    constexpr const char* kMark = "FASTDOCK_OCI_SEALED";
    if (std::getenv(kMark) != nullptr)
      return failed_with(EPERM, Operation::kUseContainer, "fastdock-oci cannot be run from sealed memory");
    ::setenv(kMark, "1", 1);
    if (Fd view = read_only_view())
      ::syscall(SYS_execveat, view.get(), "", argv, environ, AT_EMPTY_PATH);
    // Without the right to mount (rootless), or where that file cannot be executed: a copy.
    FASTDOCK_TRY(Fd memory, copy_in_memory(executable.get()));
    ::syscall(SYS_execveat, memory.get(), "", argv, environ, AT_EMPTY_PATH);
    return failed(Operation::kRunHelper, "fastdock-oci");
  }
  ::unsetenv("FASTDOCK_OCI_SEALED");
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  launch::declare_sealed();
  return {};
}

}  // namespace fastdock::oci
