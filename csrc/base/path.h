// Opening, reading, writing and removing files: typed system calls over paths, and resolution that
// cannot leave a root directory.
#pragma once

#include <fcntl.h>
#include <sys/types.h>

#include <string>
#include <string_view>

#include "base/error.h"
#include "base/fd.h"

namespace fastdock {

// openat(2), always with O_CLOEXEC.
Result<Fd> open_at(int directory, const std::string& path, int flags, mode_t mode = 0);
inline Result<Fd> open_file(const std::string& path, int flags, mode_t mode = 0) {
  return open_at(AT_FDCWD, path, flags, mode);
}

// Resolves path as if `root` were "/": "..", absolute names and symbolic links stay below it, and
// magic links (/proc/*/fd, /proc/*/exe) are refused.  openat2(2), RESOLVE_IN_ROOT.
Result<Fd> open_in_root(int root, const std::string& path, int flags, mode_t mode = 0);

// Refuses any path that would leave `directory` or passes a symbolic link.  openat2(2),
// RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS.
Result<Fd> open_beneath(int directory, const std::string& path, int flags, mode_t mode = 0);

// The whole file; for /proc and /sys files too, whose size is unknown.
Result<std::string> read_all(int fd, std::string_view path_for_errors);
Result<std::string> read_file(const std::string& path);

// One write(2) of the whole text, as /proc and cgroup files want it; the file must exist.
Result<void> write_file(const std::string& path, std::string_view text);
Result<void> write_file_at(int directory, const std::string& name, std::string_view text);

// mkdir -p.
Result<void> make_directories(const std::string& path, mode_t mode = 0755);

// rm -rf below a directory descriptor; never follows a symbolic link, never leaves the file system's
// directory tree it started in by "..".  A missing name is success.
Result<void> remove_tree(int directory, const std::string& name);

}  // namespace fastdock
