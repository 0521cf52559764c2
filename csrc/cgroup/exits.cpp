#include "cgroup/exits.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/fd.h"
#include "base/path.h"
#include "cgroup/files.h"
#include "cgroup/parse.h"
#include "cgroup/tree.h"

namespace fastdock::cgroup {
namespace {

using std::chrono::milliseconds;

int milliseconds_until(Deadline deadline) {
  auto left = std::chrono::ceil<milliseconds>(deadline - std::chrono::steady_clock::now());
  return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 1 << 30));
}

struct Process {
  pid_t pid;
  Fd descriptor;
};

// As many as descriptors can be had for: the caller comes again for the rest.
std::vector<Process> open_processes(const std::vector<pid_t>& pids) {
  std::vector<Process> opened;
  for (pid_t pid : pids) {
    auto fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
    if (fd >= 0)
      opened.push_back({pid, Fd(fd)});
    else if (errno == EMFILE || errno == ENFILE)
      break;
  }
  return opened;
}

// A pidfd becomes readable when its process has ended (pidfd_open(2)).
void wait_for(const std::vector<Process>& processes, Deadline deadline) {
  for (const Process& process : processes) {
    pollfd entry{process.descriptor.get(), POLLIN, 0};
    while (::poll(&entry, 1, milliseconds_until(deadline)) < 0 && errno == EINTR) {
    }
  }
}

Result<void> add_processes(const std::string& directory, std::vector<pid_t>& pids) {
  auto text = Files(directory).read("cgroup.procs");
  // EOPNOTSUPP: a threaded cgroup, whose processes its parent lists (cgroups(7)).
  // ENODEV, ENOENT: just removed.
  if (!text && text.error().number != EOPNOTSUPP && text.error().number != ENODEV &&
      text.error().number != ENOENT)
    return std::unexpected(text.error());
  if (text) {
    for (pid_t pid : parse_pids(*text))
      if (pid > 0) pids.push_back(pid);
  }
  auto children = children_of(directory);
  if (!children) return {};
  for (const std::string& child : *children) FASTDOCK_CHECK(add_processes(directory + "/" + child, pids));
  return {};
}

}  // namespace

Result<std::vector<pid_t>> processes_in(const std::string& directory) {
  std::vector<pid_t> pids;
  FASTDOCK_CHECK(add_processes(directory, pids));
  std::sort(pids.begin(), pids.end());
  pids.erase(std::unique(pids.begin(), pids.end()), pids.end());
  return pids;
}

Result<void> wait_for_event(const std::string& file, const char* key, std::uint64_t value,
                            Deadline deadline) {
  FASTDOCK_TRY(Fd events, open_file(file, O_RDONLY));
  while (true) {
    if (::lseek(events.get(), 0, SEEK_SET) != 0) return failed(Operation::kReadCgroup, file);
    FASTDOCK_TRY(std::string text, read_all(events.get(), file));
    if (value_of(parse_flat_keyed(text), key, kNoLimit) == value) return {};
    // kernfs wakes with POLLPRI when the file has changed since it was read (cgroup-v2.rst, "Notification").
    pollfd entry{events.get(), POLLPRI, 0};
    int woken = ::poll(&entry, 1, milliseconds_until(deadline));
    if (woken < 0 && errno != EINTR) return failed(Operation::kReadCgroup, file);
    if (woken == 0) return failed_with(ETIMEDOUT, Operation::kReadCgroup, file);
  }
}

Result<void> wait_for_exits(const std::string& directory, Deadline deadline) {
  Files files(directory);
  if (files.has("cgroup.events")) {
    auto waited = wait_for_event(files.path("cgroup.events"), "populated", 0, deadline);
    // Unpopulated and still busy: the kernel is about to let go.  ENOENT, ENODEV: removed by another.
    if (!waited) return {};
  }
  FASTDOCK_TRY(std::vector<pid_t> pids, processes_in(directory));
  std::vector<Process> processes = open_processes(pids);
  wait_for(processes, deadline);
  // Nothing to wait on: processes of another PID namespace, or tasks that have ended and that the kernel
  // has not unlinked yet.  It tells no one when it does, so look again soon, within the caller's deadline.
  if (processes.empty()) ::poll(nullptr, 0, std::min(1, milliseconds_until(deadline)));
  return {};
}

Result<void> kill_once(const std::string& directory) {
  FASTDOCK_TRY(std::vector<pid_t> pids, processes_in(directory));
  std::vector<Process> processes = open_processes(pids);
  // A pid may have been given to a stranger before its descriptor was opened: then it is not in the
  // cgroup, so only what is listed again may be signalled.
  FASTDOCK_TRY(std::vector<pid_t> still_there, processes_in(directory));
  std::erase_if(processes, [&](const Process& process) {
    return !std::binary_search(still_there.begin(), still_there.end(), process.pid);
  });
  for (const Process& process : processes)
    if (::syscall(SYS_pidfd_send_signal, process.descriptor.get(), SIGKILL, nullptr, 0) != 0 &&
        errno != ESRCH)
      return failed(Operation::kKillCgroup, directory);
  return {};
}

}  // namespace fastdock::cgroup
