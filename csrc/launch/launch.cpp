#include "launch/launch.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "launch/child.h"
#include "launch/clone_container.h"
#include "launch/conversation.h"
#include "launch/flatten.h"
#include "launch/helper.h"

namespace fastdock::launch {
Result<Process> launch(const LaunchPlan& plan, const Observer& observer) {
  FASTDOCK_TRY(Sockets sockets, make_sockets());
  Conversation conversation(plan, observer, std::move(sockets.ours));
  if (is_exposed(plan) && !runs_from_sealed_memory()) {
    FASTDOCK_TRY(auto helper, clone_by(observer, [&] {
                   return start_helper(plan, sync_points(observer), sockets.theirs.get());
                 }));
    sockets.theirs.reset();
    auto process = conversation.run();
    helper->reap();
    return process;
  }
  std::unique_ptr<Flattened> flat;
  FASTDOCK_TRY(Child child, clone_by(observer, [&]() -> Result<Child> {
                 FASTDOCK_TRY(flat, observer.begun ? observer.begun() : Flattened::begin(plan, true));
                 flat->finish(sockets.theirs.get());
                 flat->child()->sync_points = sync_points(observer);
                 return needs_own_memory(plan) ? clone_container(plan, *flat, 0)
                                               : clone_sharing_memory(flat->clone_flags(), run_child,
                                                                      flat->child(), plan.cgroup_directory);
               }));
  sockets.theirs.reset();
  conversation.begin(std::move(child), flat.get());
  auto process = conversation.run();
  if (process) process->unmapped = flat->unmapped(), process->memory = flat->take_memory();
  return process;
}

namespace {

// pidfd.h of Linux 6.15: the exit status of a process that somebody else has reaped.
struct PidfdInfo {
  std::uint64_t mask, cgroup;
  std::uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
  std::int32_t exit_code;
};
constexpr std::uint64_t kPidfdInfoExit = 1 << 3;
constexpr unsigned long kPidfdGetInfo = _IOWR(0xFF, 11, PidfdInfo);

ExitStatus from_wait_status(int status) {
  if (WIFSIGNALED(status)) return {128 + WTERMSIG(status), WTERMSIG(status)};
  return {WEXITSTATUS(status), 0};
}

}  // namespace

Result<std::optional<ExitStatus>> wait(const Process& process, int timeout_ms) {
  pollfd ended{process.pidfd.get(), POLLIN, 0};
  int ready = ::poll(&ended, 1, timeout_ms);
  if (ready < 0) return failed(Operation::kWaitForProcess);
  if (ready == 0) return std::nullopt;
  siginfo_t info{};
  if (::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(process.pidfd.get()), &info,
               WEXITED | __WALL) == 0) {
    if (info.si_code == CLD_EXITED) return ExitStatus{info.si_status, 0};
    return ExitStatus{128 + info.si_status, info.si_status};
  }
  // ECHILD: the program embedding us waits for any child (os.wait()), and was first.
  PidfdInfo reaped{};
  reaped.mask = kPidfdInfoExit;
  if (errno == ECHILD && ::ioctl(process.pidfd.get(), kPidfdGetInfo, &reaped) == 0 &&
      (reaped.mask & kPidfdInfoExit) != 0)
    return from_wait_status(reaped.exit_code);
  return failed_with(ECHILD, Operation::kWaitForProcess, std::to_string(process.pid), Hint::kProcessGone);
}

Result<void> send_signal(const Process& process, int signal) {
  if (::syscall(SYS_pidfd_send_signal, process.pidfd.get(), signal, nullptr, 0) == 0) return {};
  return failed(Operation::kSignalProcess, std::to_string(process.pid),
                errno == ESRCH ? Hint::kProcessGone : Hint::kNone);
}

}  // namespace fastdock::launch
