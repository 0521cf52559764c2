// The init of `--init`: process 1 of a container whose program was not written to be one.
//
//   argv: "init" PROGRAM ARGUMENT…
//
// It starts the program as its child, hands every signal on to it, reaps whatever is orphaned in the
// container, and ends as the child did: with its status, or with 128 + n if signal n ended it.  As
// docker-init (tini) does it without options: the child stays in the same session, but is a process group of
// its own, and the foreground one if there is a terminal, so that a shell has job control and Ctrl-C reaches
// it once.
//
// A process 1 gets no signal that it does not wait for (pid_namespaces(7)): without this, `docker stop` of a
// program without a SIGTERM handler takes ten seconds.  No C library: one page of code, one of stack.
#include <asm/ioctls.h>
#include <linux/fcntl.h>
#include <linux/prctl.h>
#include <linux/signal.h>
#include <linux/wait.h>
#include <sys/syscall.h>

#include <initializer_list>

#include "base/raw_syscall.h"

namespace {

using fastdock::raw_syscall;

using SignalSet = unsigned long;  // the kernel's sigset_t: bit n-1 is signal n

constexpr SignalSet bit(int signal) { return 1UL << (signal - 1); }

constexpr int kNoStatus = 255;  // the child is gone, and who reaped it is unknown
constexpr int kNotFound = 127;
constexpr int kNotExecutable = 126;
constexpr long kErrorMissing = -2;  // -ENOENT
constexpr long kErrorInterrupted = -4;
constexpr long kErrorNotDirectory = -20;
constexpr long kErrorNoChild = -10;

// Signals of the processor to ourselves must keep their meaning, as in tini.
constexpr SignalSet kOwn =
    bit(SIGFPE) | bit(SIGILL) | bit(SIGSEGV) | bit(SIGBUS) | bit(SIGABRT) | bit(SIGTRAP) | bit(SIGSYS);

[[noreturn]] void leave(int status) {
  while (true) raw_syscall(SYS_exit_group, status);
}

unsigned long length(const char* text) {
  unsigned long count = 0;
  while (text[count] != '\0') ++count;
  return count;
}

void complain(const char* program, const char* what) {
  for (const char* part : {"fastdock-init: ", program, what}) raw_syscall(SYS_write, 2, part, length(part));
}

SignalSet set_mask(SignalSet set) {
  SignalSet before = 0;
  raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, &set, &before, sizeof set);
  return before;
}

// execvp(3): a name without a slash is looked for in PATH.
long execute(char** arguments, char** environment) {
  const char* program = arguments[0];
  for (const char* c = program; *c != '\0'; ++c)
    if (*c == '/') return raw_syscall(SYS_execve, program, arguments, environment);
  const char* path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  for (char** variable = environment; *variable != nullptr; ++variable) {
    const char* v = *variable;
    if (v[0] == 'P' && v[1] == 'A' && v[2] == 'T' && v[3] == 'H' && v[4] == '=') path = v + 5;
  }
  long answer = kErrorMissing;
  char candidate[4096];
  while (true) {
    unsigned long size = 0;
    bool fits = true;
    auto add = [&](char c) {
      if (size == sizeof candidate) {
        fits = false;
      } else {
        candidate[size++] = c;
      }
    };
    for (; *path != '\0' && *path != ':'; ++path) add(*path);
    if (size == 0) add('.');  // an empty entry is the working directory
    add('/');
    for (const char* c = program; *c != '\0'; ++c) add(*c);
    add('\0');
    if (fits) {
      const long error = raw_syscall(SYS_execve, static_cast<const char*>(candidate), arguments, environment);
      // The first error that says more than "not here" is the one to report.
      if (error != kErrorMissing && error != kErrorNotDirectory && answer == kErrorMissing) answer = error;
    }
    if (*path == '\0') return answer;
    ++path;
  }
}

[[noreturn]] void run_child(char** arguments, char** environment, SignalSet mask) {
  raw_syscall(SYS_setpgid, 0, 0);
  const int group = static_cast<int>(raw_syscall(SYS_getpid));
  // From a background group, tcsetpgrp stops its caller by SIGTTOU unless that is blocked, as it is here.
  // Without a terminal it fails, and nothing is to be done.
  for (int fd : {0, 1, 2})
    if (raw_syscall(SYS_ioctl, fd, TIOCSPGRP, &group) == 0) break;
  set_mask(mask);
  const long error = execute(arguments, environment);
  const bool missing = error == kErrorMissing || error == kErrorNotDirectory;
  complain(arguments[0], missing ? ": not found\n" : ": cannot be executed\n");
  leave(missing ? kNotFound : kNotExecutable);
}

// Reaps all that have ended.  The child's status, or -1 while it lives.
int reap(int child) {
  int result = -1;
  while (true) {
    int status = 0;
    const long pid = raw_syscall(SYS_wait4, -1, &status, WNOHANG, nullptr);
    if (pid == kErrorInterrupted) continue;
    if (pid <= 0) return pid == kErrorNoChild && result < 0 ? kNoStatus : result;
    if (pid != child) continue;
    const int signal = status & 0x7f;
    result = signal == 0 ? (status >> 8) & 0xff : 128 + signal;
  }
}

}  // namespace

// The kernel starts a program here with argc, argv and envp on the stack, aligned to 16 bytes (psABI, 3.4.1).
extern "C" [[noreturn, gnu::used]] void start(long* stack) {
  const long count = stack[0];
  char** arguments = reinterpret_cast<char**>(stack + 1);
  char** environment = arguments + count + 1;
  if (count < 2) {
    complain("", "no program to run\n");
    leave(kNotFound);
  }
  const SignalSet waited = ~kOwn;
  const SignalSet mask = set_mask(waited);
  // If it were ignored, children would vanish with their status (wait(2), Notes).
  const struct sigaction by_default{};
  raw_syscall(SYS_rt_sigaction, SIGCHLD, &by_default, nullptr, sizeof(SignalSet));
  // vfork's semantics would stop us from handling signals until execve; a page-table copy of this is nothing.
  const auto child = static_cast<int>(raw_syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr));
  if (child == 0) run_child(arguments + 1, environment, mask);
  if (child < 0) {
    complain(arguments[1], ": cannot start a process\n");
    leave(kNotExecutable);
  }
  // The child does it too: whoever comes first, no signal finds the child in our group.
  // For ps: executed from a descriptor, it would be called after that.
  raw_syscall(SYS_prctl, PR_SET_NAME, "fastdock-init");
  raw_syscall(SYS_setpgid, child, child);
  while (true) {
    const long signal = raw_syscall(SYS_rt_sigtimedwait, &waited, nullptr, nullptr, sizeof waited);
    if (signal <= 0) continue;
    if (signal == SIGCHLD) {
      const int status = reap(child);
      if (status >= 0) leave(status);
    } else {
      raw_syscall(SYS_kill, child, signal);
    }
  }
}

asm(R"(
  .globl _start
  .type _start, @function
_start:
  xor %ebp, %ebp
  mov %rsp, %rdi
  and $-16, %rsp
  call start
  hlt
)");
