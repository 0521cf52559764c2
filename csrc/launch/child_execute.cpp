#include <linux/close_range.h>
#include <signal.h>

#include "launch/child_steps.h"

namespace fastdock::launch::steps {
namespace {

Hint hint_of_execute(int root, const char* path, long answer) {
  switch (-answer) {
    case ENOENT:
    case ENOTDIR: {
      Descriptor there(child::open_in_root(root, path, O_PATH));
      return there.ok() ? Hint::kInterpreterMissing : Hint::kProgramMissing;
    }
    case EACCES: {
      Descriptor there(child::open_in_root(root, path, O_PATH));
      struct stat status{};
      if (there.ok()) child::status_of(there.get(), status);
      return S_ISDIR(status.st_mode) ? Hint::kProgramIsDirectory : Hint::kProgramNotExecutable;
    }
    case EPERM:
      return Hint::kProgramNotExecutable;
    case ENOEXEC:
      return Hint::kWrongFormat;
    case E2BIG:
      return Hint::kArgumentsTooLong;
    case ENOMEM:
      return Hint::kMemoryLimitTooSmall;
    default:
      return Hint::kNone;
  }
}

// strerror(3), which has a lock.
const char* reason_of(int number) {
  switch (number) {
    case ENOENT:
      return "No such file or directory";
    case ENOTDIR:
      return "Not a directory";
    case EACCES:
      return "Permission denied";
    case EPERM:
      return "Operation not permitted";
    case ENOEXEC:
      return "Exec format error";
    case E2BIG:
      return "Argument list too long";
    case ENOMEM:
      return "Cannot allocate memory";
    case ELOOP:
      return "Too many levels of symbolic links";
    default:
      return "the kernel refused";
  }
}

// With `init`, the program is looked for here too, so that a missing one is an error and not a status.
long execute_at(const State& state, const char* path, Purpose purpose) {
  const ChildPlan& plan = state.plan;
  if (purpose == Purpose::kFind) {
    Descriptor program(raw_syscall(SYS_openat, AT_FDCWD, path, O_PATH | O_CLOEXEC, 0));
    struct stat status{};
    if (program.ok()) child::status_of(program.get(), status);
    if (S_ISDIR(status.st_mode)) return -EACCES;
    if (!program.ok()) return program.get();
    return raw_syscall(SYS_faccessat2, AT_FDCWD, path, 1 /* X_OK */, AT_EACCESS);
  }
  if (plan.init < 0) return raw_syscall(SYS_execve, path, plan.argv, plan.environment);
  long answer = raw_syscall(SYS_faccessat2, AT_FDCWD, path, 1 /* X_OK */, AT_EACCESS);
  if (raw_failed(answer)) return answer;
  struct stat status{};
  answer = raw_syscall(SYS_newfstatat, AT_FDCWD, path, &status, 0);
  if (raw_failed(answer) || S_ISDIR(status.st_mode)) return raw_failed(answer) ? answer : -EACCES;
  return raw_syscall(SYS_execveat, plan.init, "", plan.argv, plan.environment, AT_EMPTY_PATH);
}

[[noreturn]] void end_by_signal(int signal) {
  while (true) raw_syscall(SYS_exit_group, 128 + signal);
}

// Who waits to be started ends by what would end its program.  The first process of a PID namespace takes no
// signal that it has no handler for (pid_namespaces(7)).
constexpr int kEndingSignals[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};

void allow_ending_signals() {
  unsigned long wanted = 0;
  for (int signal : kEndingSignals) wanted |= 1UL << (signal - 1);
  raw_syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &wanted, nullptr, sizeof wanted);
}

}  // namespace

// execvp(3): a name without a slash is looked for along PATH; EACCES is remembered while looking further.
// Returns true where it was only to be found, and was.
bool execute(State& state, Purpose purpose) {
  const char* name = state.plan.program;
  bool has_slash = false;
  for (const char* at = name; *at != '\0'; ++at) has_slash = has_slash || *at == '/';
  if (has_slash || *name == '\0') {
    long answer = execute_at(state, name, purpose);
    return check(answer, state.failure, Operation::kExecute, name, hint_of_execute(state.root, name, answer));
  }
  long remembered = -ENOENT;
  Hint hint = Hint::kProgramMissing;
  char path[4096];
  for (const char* at = state.plan.search_path; *at != '\0';) {
    std::size_t end = 0;
    while (*at != '\0' && *at != ':' && end < sizeof path - 2) path[end++] = *at++;
    while (*at != '\0' && *at != ':') ++at;
    if (*at == ':') ++at;
    if (end == 0) path[end++] = '.';
    path[end++] = '/';
    for (const char* c = name; *c != '\0' && end < sizeof path - 1; ++c) path[end++] = *c;
    path[end] = '\0';
    long answer = execute_at(state, path, purpose);
    if (!raw_failed(answer)) return true;
    Hint found = hint_of_execute(state.root, path, answer);
    bool missing = (answer == -ENOENT || answer == -ENOTDIR) && found == Hint::kProgramMissing;
    if (!missing) remembered = answer, hint = found;
    if (!missing && answer != -EACCES) break;
  }
  return fail(state.failure, remembered, Operation::kExecute, name, hint);
}

// Nobody listens any more: the container's own standard error is where its user looks.
[[noreturn]] void give_up_aloud(const State& state) {
  const char* parts[] = {"exec ", state.failure.path, ": ", reason_of(state.failure.number), "\n"};
  for (const char* part : parts) raw_syscall(SYS_write, 2, part, child::length(part));
  while (true) raw_syscall(SYS_exit_group, 127);
}

// Before the filter, which may refuse it; the signals are blocked until allow_ending_signals().
void handle_ending_signals() {
  constexpr unsigned long kRestorer = 0x04000000;  // SA_RESTORER; it is never come to
  KernelAction action{end_by_signal, kRestorer, nullptr, 0};
  for (int signal : kEndingSignals)
    raw_syscall(SYS_rt_sigaction, signal, &action, nullptr, sizeof action.mask);
}

// The program is looked for first: after this, nobody would hear that it is missing.
bool wait_for_start(State& state) {
  if (!execute(state, Purpose::kFind)) return false;
  Message message{MessageKind::kWaiting, 0, Operation::kNone, Hint::kNone, 0};
  if (!check(send(state.plan.sync, message, "", -1), state.failure, Operation::kWaitForProcess, "parent"))
    return false;
  // What the launch needed is not kept open for as long as that takes.
  const int first = 3 + state.plan.preserve;
  if (state.plan.start_fifo > first) raw_syscall(SYS_close_range, first, state.plan.start_fifo - 1, 0);
  raw_syscall(SYS_close_range, state.plan.start_fifo + 1, ~0U, 0);
  state.root = -1;
  allow_ending_signals();
  char word = 0;
  return check(raw_syscall(SYS_read, state.plan.start_fifo, &word, 1), state.failure,
               Operation::kWaitForStart, "");
}

}  // namespace fastdock::launch::steps
