// Raw system calls for the floor program.  The child shares the parent's memory, and so its errno:
// libc's wrappers would race on it, and they do more than the call.
#pragma once

#include <fcntl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <sys/syscall.h>
#include <time.h>

#include <cstdint>
#include <type_traits>

namespace floor_bench {

template <class T>
long word(T value) {
  if constexpr (std::is_pointer_v<T> || std::is_null_pointer_v<T>) {
    return reinterpret_cast<long>(static_cast<const void*>(value));
  } else {
    return static_cast<long>(value);
  }
}

inline long call6(long n, long a, long b, long c, long d, long e, long f) {
  long result;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

// sys(SYS_x, arguments...): the result, or -errno.
template <class... Args>
long sys(long n, Args... args) {
  long a[6] = {word(args)...};
  return call6(n, a[0], a[1], a[2], a[3], a[4], a[5]);
}

inline std::int64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);  // vDSO: 25 ns
  return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

// clone3 onto a stack of the child's own; the child runs entry(argument) and never returns.
inline long clone_onto(clone_args* args, void (*entry)(void*), void* argument) {
  long result;
  register void (*r12)(void*) asm("r12") = entry;
  register void* r13 asm("r13") = argument;
  asm volatile(
      "syscall\n\t"
      "test %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "xor %%ebp, %%ebp\n\t"
      "mov %%r13, %%rdi\n\t"
      "call *%%r12\n\t"
      "ud2\n\t"
      "1:"
      : "=a"(result)
      : "a"(SYS_clone3), "D"(args), "S"(sizeof(clone_args)), "r"(r12), "r"(r13)
      : "rcx", "r11", "memory");
  return result;
}

}  // namespace floor_bench
