#include "launch/helper.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/path.h"
#include "base/sealed.h"
#include "launch/child_steps.h"
#include "launch/clone_container.h"
#include "launch/flatten.h"
#include "launch/wire.h"

namespace fastdock::launch {
namespace {

std::span<const std::byte> helper_program;
std::atomic<bool> sealed = false;

Fd helper_memory;

Result<int> helper_descriptor() {
  if (helper_memory) return helper_memory.get();
  static const Result<Fd> memory = sealed_memory("fastdock-helper", helper_program);
  if (!memory) return std::unexpected(memory.error());
  return memory->get();
}

// What the process between our clone and the helper's execve reads; it shares our memory.
struct Start {
  int program;
  int sync;
  std::vector<int> kept;
  std::vector<const char*> argv;
  const char* environment[1] = {nullptr};
};

[[noreturn]] void execute_helper(void* argument) {
  const auto& start = *static_cast<const Start*>(argument);
  for (int fd : start.kept) raw_syscall(SYS_fcntl, fd, F_SETFD, 0);
  unsigned long none = 0;
  raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, nullptr, sizeof none);
  long answer =
      raw_syscall(SYS_execveat, start.program, "", start.argv.data(), start.environment, AT_EMPTY_PATH);
  Message message{MessageKind::kError, static_cast<int>(-answer), Operation::kRunHelper, Hint::kNone, 0};
  raw_syscall(SYS_sendto, start.sync, &message, sizeof message, MSG_NOSIGNAL, nullptr, 0);
  while (true) raw_syscall(SYS_exit_group, 127);
}

class RunningHelper : public Helper {
 public:
  void reap() override {
    siginfo_t ended{};
    while (::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(child.pidfd.get()), &ended,
                    WEXITED | __WALL) != 0 &&
           errno == EINTR) {
    }
  }

  Fd plan;
  std::string plan_number, sync_number, points;
  Start start{};
  Child child;
};

struct Cloned {
  pid_t pid = -1;
  Fd memory;
};

Result<Cloned> clone_for_caller(const LaunchPlan& plan, std::uint32_t sync_points, int sync) {
  FASTDOCK_TRY(auto flat, Flattened::make(plan, sync));
  flat->child()->sync_points = sync_points;
  FASTDOCK_TRY(Child child, clone_container(plan, *flat, CLONE_PARENT));
  return Cloned{child.pid, flat->take_memory()};
}

}  // namespace

void set_helper_program(std::span<const std::byte> program) { helper_program = program; }
void set_helper_descriptor(Fd program) { helper_memory = std::move(program); }
bool runs_from_sealed_memory() { return sealed; }
void declare_sealed() { sealed = true; }

Result<std::unique_ptr<Helper>> start_helper(const LaunchPlan& plan, std::uint32_t sync_points, int sync) {
  auto helper = std::make_unique<RunningHelper>();
  std::string bytes = to_bytes(plan);
  FASTDOCK_TRY(helper->plan, sealed_memory("fastdock-plan", std::as_bytes(std::span(bytes))));
  FASTDOCK_TRY(helper->start.program, helper_descriptor());
  helper->plan_number = std::to_string(helper->plan.get());
  helper->sync_number = std::to_string(sync);
  helper->points = std::to_string(sync_points);
  Start& start = helper->start;
  start.sync = sync;
  start.argv = {"fastdock-helper", helper->plan_number.c_str(), helper->sync_number.c_str(),
                helper->points.c_str(), nullptr};
  start.kept = plan.cgroup_tasks;
  start.kept.insert(start.kept.end(), plan.stdio.begin(), plan.stdio.end());
  start.kept.insert(start.kept.end(), {helper->plan.get(), sync});
  if (plan.cgroup_directory >= 0) start.kept.push_back(plan.cgroup_directory);
  for (int i = 0; i < plan.preserve_descriptors; ++i) start.kept.push_back(3 + i);
  FASTDOCK_TRY(helper->child, clone_sharing_memory(0, execute_helper, &start));
  return helper;
}

int helper_main(int argc, char** argv) {
  if (argc != 4) return 125;
  // prctl(2): no ptrace, no /proc/PID/mem and /proc/PID/fd, for the clone neither.
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  declare_sealed();
  int plan_descriptor = std::atoi(argv[1]);
  int sync = std::atoi(argv[2]);
  auto cloned = [&]() -> Result<Cloned> {
    std::string bytes;
    if (::lseek(plan_descriptor, 0, SEEK_SET) != 0) return failed(Operation::kReadFile, "plan");
    FASTDOCK_TRY(bytes, read_all(plan_descriptor, "plan"));
    FASTDOCK_TRY(LaunchPlan plan, from_bytes(bytes));
    return clone_for_caller(plan, static_cast<std::uint32_t>(std::atoi(argv[3])), sync);
  }();
  if (!cloned) {
    const Error& error = cloned.error();
    steps::send(sync, {MessageKind::kError, error.number, error.operation, error.hint, 0}, error.path.c_str(),
                -1);
    return 1;
  }
  steps::send(sync, {MessageKind::kCloned, 0, Operation::kNone, Hint::kNone, cloned->pid}, "",
              cloned->memory.get());
  return 0;
}

}  // namespace fastdock::launch
