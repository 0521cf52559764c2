// What code between clone and execve may use: it shares its parent's memory, so it must not allocate,
// lock, throw or touch the C library's state.  Everything here is inline and makes only system calls.
#pragma once

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "base/error.h"
#include "base/raw_syscall.h"

namespace fastdock::child {

// The first thing that went wrong.  `path` points into memory that the parent made before the clone.
struct Failure {
  int number = 0;
  Operation operation = Operation::kNone;
  Hint hint = Hint::kNone;
  const char* path = "";
};

inline bool fail(Failure& failure, long answer, Operation operation, const char* path,
                 Hint hint = Hint::kNone) {
  failure = {static_cast<int>(-answer), operation, hint, path};
  return false;
}

// True when the system call's answer is no error; otherwise records it.
inline bool check(long answer, Failure& failure, Operation operation, const char* path,
                  Hint hint = Hint::kNone) {
  return raw_failed(answer) ? fail(failure, answer, operation, path, hint) : true;
}

inline std::size_t length(const char* text) {
  std::size_t count = 0;
  while (text[count] != '\0') ++count;
  return count;
}

inline bool equal(const char* a, const char* b) {
  while (*a != '\0' && *a == *b) ++a, ++b;
  return *a == *b;
}

inline void close(int fd) { raw_syscall(SYS_close, fd); }

// A descriptor that closes itself, for straight-line code with early returns.
class Descriptor {
 public:
  explicit Descriptor(long number) : number_(static_cast<int>(number)) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (number_ >= 0) child::close(number_);
  }
  [[nodiscard]] int get() const { return number_; }
  [[nodiscard]] bool ok() const { return number_ >= 0; }
  // Gives it a number; true unless that is an error.
  bool take(long number) {
    number_ = static_cast<int>(number);
    return ok();
  }
  int release() {
    int number = number_;
    number_ = -1;
    return number;
  }

 private:
  int number_;
};

// openat2(2) as if `root` were "/", with magic links refused: see base/path.h.
inline long open_in_root(int root, const char* path, std::uint64_t flags) {
  open_how how{};
  how.flags = flags | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  long answer = -EAGAIN;
  for (int attempt = 0; attempt < 32 && answer == -EAGAIN; ++attempt)
    answer = raw_syscall(SYS_openat2, root, path, &how, sizeof how);
  return answer;
}

inline long status_of(int fd, struct stat& status) {
  return raw_syscall(SYS_newfstatat, fd, "", &status, AT_EMPTY_PATH);
}

}  // namespace fastdock::child
