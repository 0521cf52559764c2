// One launch of a plan, for tests/kernel/test_faults.py, which makes every system call of it fail, one run
// each, with strace.  strace counts calls for each process, so a fresh process does the launch: from its
// beginning to the call of getpgid all calls belong to it.
//   launch_once PLAN STATE RUN CGROUP_PARENT
// Prints "started", or the error as "errno<TAB>operation<TAB>path<TAB>hint".
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "base/path.h"
#include "launch/container.h"
#include "launch/wire.h"

using namespace fastdock;
using namespace fastdock::launch;

namespace {

constexpr int kMarker = 0x7fd0c;  // no process has this id: it only marks the place in strace's output

Result<void> run(char** argv) {
  FASTDOCK_TRY(std::string bytes, read_file(argv[1]));
  FASTDOCK_TRY(LaunchPlan plan, from_bytes(bytes));
  FASTDOCK_TRY(auto session, Session::current({argv[2], argv[3], argv[4]}));
  ContainerOptions options;
  options.in_memory = false;
  options.limits.pids = 100;
  auto container = Container::start(session, std::move(plan), options);
  ::syscall(SYS_getpgid, kMarker);
  if (!container) return std::unexpected(container.error());
  FASTDOCK_CHECK((*container)->wait(-1));
  auto usage = (*container)->finish();
  if (!usage) return std::unexpected(usage.error());
  return {};
}

// By writev(2), which no launch calls: the N-th write(2) of this process may be one that is made to fail.
void say(std::string line) {
  const iovec part{line.data(), line.size()};
  (void)!::writev(STDOUT_FILENO, &part, 1);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  pid_t launcher = ::fork();
  if (launcher != 0) {
    int status = 0;
    ::waitpid(launcher, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 3;
  }
  auto done = run(argv);
  if (!done) {
    const Error& error = done.error();
    say(std::to_string(error.number) + '\t' + std::string(text(error.operation)) + '\t' + error.path + '\t' +
        std::string(text(error.hint)) + '\n');
    return 1;
  }
  say("started\n");
  return 0;
}
