#include "rootfs/mount_point.h"

#include <fcntl.h>
#include <sys/stat.h>

namespace fastdock::rootfs {
namespace {

using child::check;
using child::Descriptor;
using child::fail;
using child::Failure;
using child::open_in_root;

constexpr std::size_t kMaximumPath = 4096;
constexpr int kMaximumLinks = 40;  // MAXSYMLINKS of the kernel

// What a path with a dangling link in it stands for: the same with the link's target in its place.
struct Followed {
  char path[kMaximumPath];
  bool dangling = false;
};

bool put(Followed& followed, std::size_t& at, const char* text, std::size_t count) {
  if (at + count >= kMaximumPath) return false;
  for (std::size_t i = 0; i < count; ++i) followed.path[at++] = text[i];
  followed.path[at] = '\0';
  return true;
}

// `before` names the link's directory, `rest` follows the link.  Its ".." and further links are left to
// openat2(2), which keeps them in the root.
void follow(int directory, const char* name, const char* before, std::size_t before_length, const char* rest,
            Followed& followed) {
  char target[kMaximumPath];
  long length = raw_syscall(SYS_readlinkat, directory, name, target, sizeof target);
  if (raw_failed(length) || length == 0) return;
  std::size_t at = 0;
  bool relative = target[0] != '/';
  followed.dangling =
      (!relative || (put(followed, at, before, before_length) && put(followed, at, "/", 1))) &&
      put(followed, at, target, static_cast<std::size_t>(length)) &&
      put(followed, at, rest, child::length(rest));
}

// Opens the directory that `path` names, the first `length` bytes of `whole`, or makes it; all but its last
// component is there.
long open_or_make_directory(int root, const char* path, std::size_t length, const char* whole,
                            Followed* followed, Failure& failure) {
  auto refused = [&](long answer, Operation operation) {
    fail(failure, answer, operation, whole, Hint::kMountPointMissing);
    return answer;
  };
  long existing = open_in_root(root, path, O_PATH | O_DIRECTORY);
  if (!raw_failed(existing)) return existing;
  if (existing != -ENOENT) return refused(existing, Operation::kOpenMountPoint);
  std::size_t slash = length;
  while (slash > 0 && path[slash - 1] != '/') --slash;
  char before[kMaximumPath];
  for (std::size_t i = 0; i < slash; ++i) before[i] = path[i];
  before[slash] = '\0';
  Descriptor above(open_in_root(root, slash == 0 ? "." : before, O_PATH | O_DIRECTORY));
  if (!above.ok()) return refused(above.get(), Operation::kCreateMountPoint);
  long made = raw_syscall(SYS_mkdirat, above.get(), path + slash, 0755);
  if (raw_failed(made) && made != -EEXIST) return refused(made, Operation::kCreateMountPoint);
  existing = open_in_root(root, path, O_PATH | O_DIRECTORY);
  if (!raw_failed(existing)) return existing;
  if (existing == -ENOENT && followed != nullptr)
    follow(above.get(), path + slash, before, slash, whole + length, *followed);
  return refused(existing, Operation::kOpenMountPoint);
}

int open_parent_following(int root, const char* path, const char*& name, Followed* followed,
                          Failure& failure) {
  std::size_t end = child::length(path);
  if (end >= kMaximumPath) {
    fail(failure, -ENAMETOOLONG, Operation::kOpenMountPoint, path);
    return -1;
  }
  while (end > 0 && path[end - 1] != '/') --end;
  name = path + end;
  while (end > 0 && path[end - 1] == '/') --end;
  char prefix[kMaximumPath];
  // Every missing directory, from the top: at each slash the part before it must exist or be made.
  std::size_t at = 0;
  for (; at < end; ++at) {
    prefix[at] = path[at];
    if (path[at + 1] != '/' && at + 1 != end) continue;
    prefix[at + 1] = '\0';
    long existing = open_or_make_directory(root, prefix, at + 1, path, followed, failure);
    if (raw_failed(existing)) return -1;
    child::close(static_cast<int>(existing));
  }
  prefix[at] = '\0';
  long parent = open_in_root(root, end == 0 ? "." : prefix, O_PATH | O_DIRECTORY);
  if (!check(parent, failure, Operation::kOpenMountPoint, path)) return -1;
  return static_cast<int>(parent);
}

int create_last(int root, const char* path, bool directory, Followed& followed, Failure& failure) {
  const char* name = nullptr;
  Descriptor parent(open_parent_following(root, path, name, &followed, failure));
  if (!parent.ok() || *name == '\0') return parent.release();
  long answer = directory ? raw_syscall(SYS_mkdirat, parent.get(), name, 0755)
                          : raw_syscall(SYS_openat, parent.get(), name,
                                        O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_WRONLY, 0644);
  if (raw_failed(answer) && answer != -EEXIST) {
    fail(failure, answer, Operation::kCreateMountPoint, path, Hint::kMountPointMissing);
    return -1;
  }
  if (!directory && !raw_failed(answer)) child::close(static_cast<int>(answer));
  long opened = open_in_root(root, path, O_PATH);
  if (opened == -ENOENT)
    follow(parent.get(), name, path, static_cast<std::size_t>(name - path), "", followed);
  if (!check(opened, failure, Operation::kOpenMountPoint, path)) return -1;
  return static_cast<int>(opened);
}

}  // namespace

int open_parent(int root, const char* path, const char*& name, Failure& failure) {
  return open_parent_following(root, path, name, nullptr, failure);
}

int open_or_create(int root, const char* path, bool directory, Failure& failure) {
  Followed followed[2];
  const char* wanted = path;
  for (int links = 0; links < kMaximumLinks; ++links) {
    long opened = open_in_root(root, wanted, O_PATH);
    if (!raw_failed(opened)) return static_cast<int>(opened);
    if (opened != -ENOENT) {
      Hint hint = opened == -ELOOP || opened == -EXDEV ? Hint::kEscapesRoot : Hint::kNone;
      fail(failure, opened, Operation::kOpenMountPoint, path, hint);
      return -1;
    }
    Followed& next = followed[links % 2];
    next.dangling = false;
    int made = create_last(root, wanted, directory, next, failure);
    if (made >= 0) return made;
    if (!next.dangling) {
      failure.path = path;  // the other one is ours, and goes
      return -1;
    }
    wanted = next.path;
  }
  fail(failure, -ELOOP, Operation::kOpenMountPoint, path, Hint::kEscapesRoot);
  return -1;
}

int open_plain_directory(int root, const char* path, Failure& failure) {
  long opened = open_in_root(root, path, O_PATH | O_NOFOLLOW);
  if (raw_failed(opened)) return open_or_create(root, path, true, failure);
  Descriptor there(opened);
  struct stat status{};
  if (!check(child::status_of(there.get(), status), failure, Operation::kInspectFile, path)) return -1;
  if (S_ISDIR(status.st_mode)) return there.release();
  fail(failure, -ENOTDIR, Operation::kOpenMountPoint, path, Hint::kMountPointIsLink);
  return -1;
}

}  // namespace fastdock::rootfs
