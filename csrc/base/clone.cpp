#include "base/clone.h"

#include <linux/sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cerrno>
#include <mutex>
#include <utility>
#include <vector>

#include "base/raw_syscall.h"

namespace fastdock {
namespace {

constexpr std::size_t kStackSize = 128 * 1024;
constexpr std::size_t kGuardSize = 4096;

// Stacks of children that have gone, kept for the next: mapping and faulting one in costs ~10 us.
class Stacks {
 public:
  void* take() {
    {
      std::scoped_lock lock(mutex_);
      if (!free_.empty()) {
        void* stack = free_.back();
        free_.pop_back();
        return stack;
      }
    }
    void* memory = ::mmap(nullptr, kStackSize + kGuardSize, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    ::mprotect(memory, kGuardSize, PROT_NONE);
    return memory;
  }
  void give(void* stack) {
    std::scoped_lock lock(mutex_);
    free_.push_back(stack);
  }

 private:
  std::mutex mutex_;
  std::vector<void*> free_;
};

// Never destroyed: a thread may still be launching while the program exits.
Stacks& stacks() {
  static auto* instance = new Stacks;
  return *instance;
}

// clone3 itself: the child begins on a new stack, so no compiled function can return there.
long enter_clone(const clone_args* arguments, ChildMain main, void* argument) {
  register ChildMain main_register asm("r12") = main;
  register void* argument_register asm("r13") = argument;
  long answer;
  asm volatile(
      "syscall\n"
      "test %%rax, %%rax\n"
      "jnz 1f\n"
      "xor %%ebp, %%ebp\n"  // the outermost frame, for debuggers
      "mov %%r13, %%rdi\n"
      "call *%%r12\n"
      "ud2\n"
      "1:\n"
      : "=a"(answer)
      : "a"(SYS_clone3), "D"(arguments), "S"(sizeof *arguments), "r"(main_register), "r"(argument_register)
      : "rcx", "r11", "memory");
  return answer;
}

Hint hint_of(int number, std::uint64_t flags) {
  if (number == ENOSPC) return Hint::kNamespaceLimit;
  if (number == EPERM) return (flags & CLONE_NEWUSER) != 0 ? Hint::kUserNamespaceForbidden : Hint::kNamespaceForbidden;
  if (number == ENOSYS) return Hint::kKernelTooOld;
  return Hint::kNone;
}

}  // namespace

StackLease& StackLease::operator=(StackLease&& other) noexcept {
  std::swap(stack_, other.stack_);
  return *this;
}

StackLease::~StackLease() {
  if (stack_ != nullptr) stacks().give(stack_);
}

void Child::kill_and_reap() {
  if (pid < 0) return;
  // By pid where the descriptor will not do: until we have waited for it, nobody else can have this pid.
  if (::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0) != 0) ::kill(pid, SIGKILL);
  reap();
}

void Child::reap() {
  siginfo_t ended{};
  while (::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd.get()), &ended, WEXITED | __WALL) != 0 &&
         errno == EINTR) {
  }
  pid = -1;
}

Result<Child> clone_child(std::uint64_t flags, ChildMain main, void* argument, int cgroup) {
  void* stack = stacks().take();
  StackLease lease(stack);
  if (stack == nullptr) return failed(Operation::kAllocateStack);
  int pidfd = -1;
  clone_args arguments{};
  arguments.flags = flags | CLONE_PIDFD | CLONE_CLEAR_SIGHAND;
  arguments.pidfd = reinterpret_cast<std::uint64_t>(&pidfd);
  arguments.exit_signal = (flags & CLONE_PARENT) != 0 ? 0 : SIGCHLD;
  arguments.stack = reinterpret_cast<std::uint64_t>(stack) + kGuardSize;
  arguments.stack_size = kStackSize;
  if (cgroup >= 0) {
    arguments.flags |= CLONE_INTO_CGROUP;
    arguments.cgroup = static_cast<std::uint64_t>(cgroup);
  }
  // Blocked so that no handler of the caller can run in the child, on memory that both share.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  long answer = enter_clone(&arguments, main, argument);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (raw_failed(answer)) {
    auto number = static_cast<int>(-answer);
    return failed_with(number, Operation::kCloneProcess, "", hint_of(number, flags));
  }
  return Child{static_cast<pid_t>(answer), Fd(pidfd), std::move(lease)};
}

Result<Child> clone_sharing_memory(std::uint64_t flags, ChildMain main, void* argument, int cgroup) {
  return clone_child(flags | CLONE_VM, main, argument, cgroup);
}

}  // namespace fastdock
