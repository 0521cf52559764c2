#include "base/path.h"

#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstring>

#include "base/directory_stream.h"

namespace fastdock {
namespace {

Result<Fd> open_resolved(int directory, const std::string& path, int flags, mode_t mode,
                         std::uint64_t resolve) {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags) | O_CLOEXEC;
  how.mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? mode : 0;
  how.resolve = resolve;
  // openat2(2): EAGAIN means that a rename or mount raced with ".."; the manual says to try again.
  for (int attempt = 0; attempt < 32; ++attempt) {
    auto fd = static_cast<int>(::syscall(SYS_openat2, directory, path.c_str(), &how, sizeof how));
    if (fd >= 0) return Fd(fd);
    if (errno != EAGAIN && errno != EINTR) break;
  }
  Hint hint = (errno == EXDEV || errno == ELOOP) ? Hint::kEscapesRoot : Hint::kNone;
  return failed(Operation::kOpenFile, path, hint);
}

Result<void> remove_children(Fd directory, const std::string& name) {
  DirectoryStream stream(::fdopendir(directory.get()));
  if (!stream) return failed(Operation::kListDirectory, name);
  int fd = directory.release();  // the stream owns it now
  while (true) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());
    if (entry == nullptr) break;
    if (std::strcmp(entry->d_name, ".") == 0 || std::strcmp(entry->d_name, "..") == 0) continue;
    FASTDOCK_CHECK(remove_tree(fd, entry->d_name));
  }
  if (errno != 0) return failed(Operation::kListDirectory, name);
  return {};
}

}  // namespace

Result<Fd> open_at(int directory, const std::string& path, int flags, mode_t mode) {
  int fd = ::openat(directory, path.c_str(), flags | O_CLOEXEC, mode);
  if (fd < 0) return failed(Operation::kOpenFile, path);
  return Fd(fd);
}

Result<Fd> open_in_root(int root, const std::string& path, int flags, mode_t mode) {
  return open_resolved(root, path, flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

Result<Fd> open_beneath(int directory, const std::string& path, int flags, mode_t mode) {
  return open_resolved(directory, path, flags, mode,
                       RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
}

Result<std::string> read_all(int fd, std::string_view path_for_errors) {
  std::string content;
  char buffer[16384];
  while (true) {
    ssize_t count = ::read(fd, buffer, sizeof buffer);
    if (count == 0) return content;
    if (count < 0) {
      if (errno == EINTR) continue;
      return failed(Operation::kReadFile, path_for_errors);
    }
    content.append(buffer, static_cast<std::size_t>(count));
  }
}

Result<std::string> read_file(const std::string& path) {
  FASTDOCK_TRY(Fd fd, open_file(path, O_RDONLY));
  return read_all(fd.get(), path);
}

Result<void> write_file(const std::string& path, std::string_view text) {
  return write_file_at(AT_FDCWD, path, text);
}

Result<void> write_file_at(int directory, const std::string& name, std::string_view text) {
  FASTDOCK_TRY(Fd fd, open_at(directory, name, O_WRONLY));
  ssize_t written = ::write(fd.get(), text.data(), text.size());
  if (written < 0) return failed(Operation::kWriteFile, name);
  if (static_cast<std::size_t>(written) != text.size()) return failed_with(EIO, Operation::kWriteFile, name);
  return {};
}

Result<void> make_directories(const std::string& path, mode_t mode) {
  if (::mkdir(path.c_str(), mode) == 0 || errno == EEXIST) return {};
  if (errno != ENOENT) return failed(Operation::kCreateDirectory, path);
  auto slash = path.find_last_of('/');
  if (slash == std::string::npos || slash == 0) return failed(Operation::kCreateDirectory, path);
  FASTDOCK_CHECK(make_directories(path.substr(0, slash), mode));
  if (::mkdir(path.c_str(), mode) == 0 || errno == EEXIST) return {};
  return failed(Operation::kCreateDirectory, path);
}

Result<void> remove_tree(int directory, const std::string& name) {
  if (::unlinkat(directory, name.c_str(), 0) == 0 || errno == ENOENT) return {};
  // unlink(2) of a directory: EISDIR on Linux, EPERM by POSIX.
  if (errno != EISDIR && errno != EPERM) return failed(Operation::kRemoveFile, name);
  if (::unlinkat(directory, name.c_str(), AT_REMOVEDIR) == 0) return {};
  if (errno != ENOTEMPTY && errno != EEXIST) return failed(Operation::kRemoveFile, name);
  FASTDOCK_TRY(Fd child, open_at(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  FASTDOCK_CHECK(remove_children(std::move(child), name));
  if (::unlinkat(directory, name.c_str(), AT_REMOVEDIR) != 0) return failed(Operation::kRemoveFile, name);
  return {};
}

}  // namespace fastdock
