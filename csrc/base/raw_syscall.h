// Raw system calls for code that runs without a C library: the child between clone and execve, which
// shares the parent's memory (so errno, malloc and libc's thread state are the parent's), and the init
// program, which has no C library at all.
#pragma once

#include <type_traits>

#if !defined(__x86_64__)
#error "fastdock knows the system call convention of x86-64 only"
#endif

namespace fastdock {

namespace detail {

template <class T>
[[gnu::always_inline]] inline long as_register(T value) {
  if constexpr (std::is_null_pointer_v<T>) {
    return 0;
  } else if constexpr (std::is_pointer_v<T>) {
    return reinterpret_cast<long>(value);
  } else {
    static_assert(std::is_integral_v<T> || std::is_enum_v<T>, "system calls take integers and pointers");
    return static_cast<long>(value);
  }
}

// x86-64 psABI, A.2.1: number in rax, arguments in rdi, rsi, rdx, r10, r8, r9; the kernel clobbers rcx and
// r11 and answers in rax, -4095..-1 meaning -errno.
[[gnu::always_inline]] inline long enter_kernel(long number, long a, long b, long c, long d, long e, long f) {
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  long answer;
  asm volatile("syscall"
               : "=a"(answer)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return answer;
}

}  // namespace detail

// Makes the system call and returns what the kernel answered: -errno on failure.  Arguments that are not
// given are passed as 0.  Integers are extended as their own type says (int -1 becomes 64 ones).
template <class... Arguments>
[[gnu::always_inline]] inline long raw_syscall(long number, Arguments... arguments) {
  static_assert(sizeof...(Arguments) <= 6, "a system call takes at most six arguments");
  long values[6] = {};
  [[maybe_unused]] int index = 0;
  ((values[index++] = detail::as_register(arguments)), ...);
  return detail::enter_kernel(number, values[0], values[1], values[2], values[3], values[4], values[5]);
}

// Whether a raw system call's answer is an error (then -answer is the errno).
constexpr bool raw_failed(long answer) { return answer < 0 && answer >= -4095; }

}  // namespace fastdock
