// The program's first instructions: what run_sealed() would do, before the C library is there.
//
// A statically linked program spends 0.15 ms until main() (page faults, and cpuid(2) instructions that a
// virtual machine must emulate), and run, create and exec are executed twice (seal.h).  So the first of the
// two goes from here, which takes 0.25 ms off each.  Wherever anything is unusual main() is reached, and
// run_sealed() does it or says why not.
//
// Nothing is relocated yet, there is no thread pointer, and memcpy() cannot be called.  So only system calls
// are made, and CMakeLists.txt has this file compiled without the stack protector.
#include <linux/mount.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>

#include "base/child.h"

// System V ABI, AMD64 supplement, 3.4.1: the stack pointer is at argc; then come argv, 0, the environment, 0.
asm(R"(
.text
.globl fastdock_oci_entry
.type fastdock_oci_entry, @function
fastdock_oci_entry:
  mov %rdx, %r12
  mov %rsp, %rdi
  call fastdock_oci_seal_first
  mov %r12, %rdx
  xor %r12d, %r12d
  jmp _start
)");

namespace {

using namespace fastdock;

bool enters_a_container(char** argv) {
  for (; *argv != nullptr; ++argv)
    if (child::equal(*argv, "run") || child::equal(*argv, "create") || child::equal(*argv, "exec"))
      return true;
  return false;
}

}  // namespace

extern "C" void fastdock_oci_seal_first(long* stack) {
  const long count = *stack;
  auto** argv = reinterpret_cast<char**>(stack + 1);
  char** environment = argv + count + 1;
  constexpr const char* kExecutable = "/proc/self/exe";
  struct statfs status;  // NOLINT(cppcoreguidelines-pro-type-member-init): {} may be a call of memset()
  if (count < 2 || !enters_a_container(argv + 1)) return;
  // Read-only: this is the second time, and main() is to go on.
  if (raw_failed(raw_syscall(SYS_statfs, kExecutable, &status)) || (status.f_flags & ST_RDONLY) != 0) return;
  const long view = raw_syscall(SYS_open_tree, AT_FDCWD, kExecutable, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  if (raw_failed(view)) return;
  mount_attr attributes{.attr_set = MOUNT_ATTR_RDONLY, .attr_clr = 0, .propagation = 0, .userns_fd = 0};
  if (!raw_failed(raw_syscall(SYS_mount_setattr, view, "", AT_EMPTY_PATH, &attributes, sizeof attributes)))
    raw_syscall(SYS_execveat, view, "", argv, environment, AT_EMPTY_PATH);
  raw_syscall(SYS_close, view);
}
