#include "rootfs/copy_tree.h"

namespace fastdock::rootfs {
namespace {

using child::check;
using child::Descriptor;
using child::fail;
using child::Failure;

// Deeper trees than this would be somebody's attempt on the child's small stack.
constexpr int kMaximumDepth = 24;

struct DirectoryEntry {  // getdents64(2)
  std::uint64_t inode;
  std::int64_t offset;
  unsigned short length;
  unsigned char type;
  char name[];
};

bool set_owner_and_mode(int directory, const char* name, const struct stat& status, Failure& failure) {
  long owned = raw_syscall(SYS_fchownat, directory, name, status.st_uid, status.st_gid, AT_SYMLINK_NOFOLLOW);
  if (!check(owned, failure, Operation::kSetOwner, name)) return false;
  if (S_ISLNK(status.st_mode)) return true;
  return check(raw_syscall(SYS_fchmodat, directory, name, status.st_mode & 07777), failure,
               Operation::kSetMode, name);
}

bool copy_file(int from, int to, const char* name, const struct stat& status, Failure& failure) {
  Descriptor source(raw_syscall(SYS_openat, from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0));
  if (!check(source.get(), failure, Operation::kOpenFile, name)) return false;
  Descriptor target(raw_syscall(SYS_openat, to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!check(target.get(), failure, Operation::kCreateFile, name)) return false;
  char buffer[8192];
  while (true) {
    long count = raw_syscall(SYS_read, source.get(), buffer, sizeof buffer);
    if (!check(count, failure, Operation::kReadFile, name)) return false;
    if (count == 0) break;
    for (long done = 0; done < count;) {
      long written = raw_syscall(SYS_write, target.get(), buffer + done, count - done);
      if (!check(written, failure, Operation::kWriteFile, name)) return false;
      done += written;
    }
  }
  return set_owner_and_mode(to, name, status, failure);
}

bool copy_link(int from, int to, const char* name, const struct stat& status, Failure& failure) {
  char target[4096];
  long size = raw_syscall(SYS_readlinkat, from, name, target, sizeof target - 1);
  if (!check(size, failure, Operation::kReadFile, name)) return false;
  target[size] = '\0';
  return check(raw_syscall(SYS_symlinkat, target, to, name), failure, Operation::kCreateLink, name) &&
         set_owner_and_mode(to, name, status, failure);
}

bool copy_children(int from, int to, int depth, Failure& failure);

bool copy_entry(int from, int to, const char* name, int depth, Failure& failure) {
  struct stat status{};
  long answer = raw_syscall(SYS_newfstatat, from, name, &status, AT_SYMLINK_NOFOLLOW);
  if (!check(answer, failure, Operation::kInspectFile, name)) return false;
  if (S_ISREG(status.st_mode)) return copy_file(from, to, name, status, failure);
  if (S_ISLNK(status.st_mode)) return copy_link(from, to, name, status, failure);
  if (!S_ISDIR(status.st_mode)) return true;
  if (depth >= kMaximumDepth) return fail(failure, -ELOOP, Operation::kCreateDirectory, name);
  if (!check(raw_syscall(SYS_mkdirat, to, name, 0700), failure, Operation::kCreateDirectory, name))
    return false;
  constexpr int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  Descriptor source(raw_syscall(SYS_openat, from, name, flags, 0));
  if (!check(source.get(), failure, Operation::kOpenFile, name)) return false;
  Descriptor target(raw_syscall(SYS_openat, to, name, flags, 0));
  return check(target.get(), failure, Operation::kOpenFile, name) &&
         copy_children(source.get(), target.get(), depth + 1, failure) &&
         set_owner_and_mode(to, name, status, failure);
}

bool copy_children(int from, int to, int depth, Failure& failure) {
  alignas(DirectoryEntry) char buffer[2048];
  while (true) {
    long size = raw_syscall(SYS_getdents64, from, buffer, sizeof buffer);
    if (!check(size, failure, Operation::kListDirectory, "")) return false;
    if (size == 0) return true;
    for (long at = 0; at < size;) {
      const auto* entry = reinterpret_cast<const DirectoryEntry*>(buffer + at);
      at += entry->length;
      if (child::equal(entry->name, ".") || child::equal(entry->name, "..")) continue;
      if (!copy_entry(from, to, entry->name, depth, failure)) return false;
    }
  }
}

}  // namespace

bool copy_tree(int from, int to, const char* name, Failure& failure) {
  // `from` is O_PATH.
  Descriptor source(raw_syscall(SYS_openat, from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0));
  if (!check(source.get(), failure, Operation::kOpenFile, name)) return false;
  Descriptor target(raw_syscall(SYS_openat, to, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0));
  if (!check(target.get(), failure, Operation::kOpenFile, name)) return false;
  struct stat status{};
  child::status_of(source.get(), status);
  if (!copy_children(source.get(), target.get(), 0, failure)) {
    failure.path = name;  // the entry's own name is on this stack
    return false;
  }
  return set_owner_and_mode(to, ".", status, failure);
}

}  // namespace fastdock::rootfs
