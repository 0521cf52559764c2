// How many instructions the core executes in user mode for one warm start, in the caller and in the
// container's first process until its execve: counted by single steps (ptrace(2)), as virtual machines have
// no counter for perf and callgrind cannot follow a child that shares its parent's memory.
//   count_instructions PLAN STATE RUN CGROUP_PARENT
// Prints the number.
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <set>

#include "base/path.h"
#include "launch/container.h"
#include "launch/wire.h"

using namespace fastdock;
using namespace fastdock::launch;

namespace {

constexpr unsigned long kMarker = 0x7fd0c;  // no process has this id: it only marks the place

void mark() { ::syscall(SYS_getpgid, kMarker); }

Result<void> start_once(const std::shared_ptr<Session>& session, const LaunchPlan& plan, bool marked) {
  ContainerOptions options;
  options.limits.pids = 100;
  LaunchPlan own = plan;
  if (marked) mark();
  auto container = Container::start(session, std::move(own), options);
  if (marked) mark();
  if (!container) return std::unexpected(container.error());
  FASTDOCK_CHECK((*container)->wait(-1));
  FASTDOCK_CHECK((*container)->finish());
  return {};
}

Result<void> run_measured(char** argv) {
  FASTDOCK_TRY(std::string bytes, read_file(argv[1]));
  FASTDOCK_TRY(LaunchPlan plan, from_bytes(bytes));
  FASTDOCK_TRY(auto session, Session::current({argv[2], argv[3], argv[4]}));
  for (bool marked : {false, false, true}) FASTDOCK_CHECK(start_once(session, plan, marked));
  return {};
}

int measured(char** argv) {
  ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
  ::raise(SIGSTOP);
  auto done = run_measured(argv);
  if (done) return 0;
  std::fprintf(stderr, "%s: %s\n", std::string(text(done.error().operation)).c_str(),
               done.error().path.c_str());
  return 1;
}

// Whether it has just called mark(): the registers of a system call that has returned.
bool is_at_mark(pid_t process) {
  user_regs_struct registers{};
  return ::ptrace(PTRACE_GETREGS, process, nullptr, &registers) == 0 && registers.rdi == kMarker &&
         registers.rax == static_cast<unsigned long>(-ESRCH);
}

void go_on(pid_t process, int request, int signal = 0) {
  ::ptrace(static_cast<__ptrace_request>(request), process, nullptr, static_cast<long>(signal));
}

// Lets it run, without its children, until it calls mark().
bool run_to_mark(pid_t process) {
  for (go_on(process, PTRACE_SYSCALL);;) {
    int status = 0;
    if (::waitpid(process, &status, 0) != process || !WIFSTOPPED(status)) return false;
    int signal = WSTOPSIG(status);
    if (signal == (SIGTRAP | 0x80) && is_at_mark(process)) return true;
    go_on(process, PTRACE_SYSCALL, (signal & ~0x80) == SIGTRAP ? 0 : signal);
  }
}

// Steps through it and what it creates until it calls mark() again; a child's steps end at its execve.
long count_to_mark(pid_t process) {
  long count = 0;
  bool was_at_mark = true;  // the registers stay so for some instructions
  std::set<pid_t> known{process};
  for (go_on(process, PTRACE_SINGLESTEP);;) {
    int status = 0;
    pid_t stopped = ::waitpid(-1, &status, __WALL);
    if (stopped < 0) return -1;
    if (!WIFSTOPPED(status)) {
      if (stopped == process) return -1;
      continue;
    }
    int signal = WSTOPSIG(status);
    int event = status >> 16;
    if (event == PTRACE_EVENT_EXEC) {
      go_on(stopped, PTRACE_DETACH);
      continue;
    }
    bool is_new = known.insert(stopped).second;  // its first stop is the kernel's SIGSTOP
    if (signal == SIGTRAP && event == 0) {
      ++count;
      if (stopped == process) {
        bool at_mark = is_at_mark(process);
        if (at_mark && !was_at_mark) return count;
        was_at_mark = at_mark;
      }
    }
    go_on(stopped, PTRACE_SINGLESTEP, signal == SIGTRAP || is_new ? 0 : signal);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  // Where the stack and the heap are decides how some loops go.
  ::personality(ADDR_NO_RANDOMIZE);
  pid_t process = ::fork();
  if (process == 0) return measured(argv);
  ::waitpid(process, nullptr, 0);
  ::ptrace(PTRACE_SETOPTIONS, process, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
  if (!run_to_mark(process)) return 1;
  ::ptrace(PTRACE_SETOPTIONS, process, nullptr,
           PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
               PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC);
  long count = count_to_mark(process);
  ::ptrace(PTRACE_DETACH, process, nullptr, nullptr);
  int status = 0;
  ::waitpid(process, &status, 0);
  if (count < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) return 1;
  std::printf("%ld\n", count);
  return 0;
}
