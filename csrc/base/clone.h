// clone3(2) of a child that runs a function on its own stack: the cheap way to start a process from a
// large one, because it shares the caller's memory until execve.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "base/error.h"
#include "base/fd.h"

namespace fastdock {

// The child's stack.  Let go of it only when the child has called execve or ended.
class StackLease {
 public:
  explicit StackLease(void* stack = nullptr) : stack_(stack) {}
  StackLease(StackLease&& other) noexcept : stack_(other.stack_) { other.stack_ = nullptr; }
  StackLease& operator=(StackLease&& other) noexcept;
  StackLease(const StackLease&) = delete;
  StackLease& operator=(const StackLease&) = delete;
  ~StackLease();

 private:
  void* stack_;
};

struct Child {
  pid_t pid = -1;
  Fd pidfd;
  StackLease stack;
  // For a child that is no longer wanted: SIGKILL, then waits for its end.
  void kill_and_reap();
  // Waits for its end.
  void reap();
};

using ChildMain = void (*)(void* argument);  // never returns

// The child runs `main(argument)` with every signal blocked and handlers reset (CLONE_CLEAR_SIGHAND).
// With CLONE_VM set in `flags` it shares the caller's memory: then `main` may only do what code in a
// signal handler may, and less (base/child.h), and the caller must keep `argument` alive until the child
// has called execve or ended.  `cgroup`: a v2 directory for CLONE_INTO_CGROUP, or -1.
Result<Child> clone_child(std::uint64_t flags, ChildMain main, void* argument, int cgroup = -1);

// The same with CLONE_VM.
Result<Child> clone_sharing_memory(std::uint64_t flags, ChildMain main, void* argument, int cgroup = -1);

}  // namespace fastdock
