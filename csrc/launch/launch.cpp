#include "launch/launch.h"

#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/clone.h"
#include "base/path.h"
#include "launch/child.h"
#include "launch/clone_container.h"
#include "launch/flatten.h"
#include "launch/helper.h"
#include "rootfs/id_map.h"

namespace fastdock::launch {
namespace {

bool makes(const LaunchPlan& plan, Namespace kind) {
  return plan.namespaces[static_cast<std::size_t>(kind)].mode == NamespaceMode::kNew;
}

Result<void> write_id_maps(const LaunchPlan& plan, const std::string& proc) {
  if (!makes(plan, Namespace::kUser)) return {};
  if (auto written = write_file(proc + "uid_map", rootfs::map_text(plan.uid_map)); !written)
    return failed_with(written.error().number, Operation::kWriteUidMap, "", Hint::kUserNamespaceForbidden);
  if (auto written = write_file(proc + "gid_map", rootfs::map_text(plan.gid_map)); !written)
    return failed_with(written.error().number, Operation::kWriteGidMap, "", Hint::kUserNamespaceForbidden);
  return {};
}

struct Received {
  Message message;
  std::string text;
  Fd descriptor;
};

// The next message, or nothing at the end: every other end of the socket is closed, by execve or exit.
Result<std::optional<Received>> receive(int socket) {
  Received received;
  std::array<char, 4096> path;
  iovec parts[2] = {{&received.message, sizeof(Message)}, {path.data(), path.size()}};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr header{};
  header.msg_iov = parts;
  header.msg_iovlen = 2;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  ssize_t count = ::recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
  // ECONNRESET, once: the child closed its end with a word of ours unread; what it said before comes next
  // (unix_release_sock).
  while (count < 0 && (errno == EINTR || errno == ECONNRESET))
    count = ::recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
  if (count == 0) return std::nullopt;
  if (count < static_cast<ssize_t>(sizeof(Message))) return failed(Operation::kWaitForProcess);
  received.text.assign(path.data(), static_cast<std::size_t>(count) - sizeof(Message));
  const cmsghdr* first = CMSG_FIRSTHDR(&header);
  if (first != nullptr && first->cmsg_type == SCM_RIGHTS)
    received.descriptor = Fd(*reinterpret_cast<const int*>(CMSG_DATA(first)));
  return received;
}

// The parent's side, from the clone to the child's execve.
class Conversation {
 public:
  Conversation(const LaunchPlan& plan, const Observer& observer, Fd socket)
      : plan_(plan), observer_(observer), socket_(std::move(socket)) {}

  // `flat`: where it was made here, what is left to do when there is a child.
  void begin(Child child, Flattened* flat = nullptr) {
    child_ = std::move(child);
    flat_ = flat;
    if (auto greeted = greet(); !greeted) fail(std::move(greeted.error()));
  }

  Result<Process> run() {
    while (true) {
      auto received = receive(socket_.get());
      if (!received) fail(std::move(received.error()));
      if (!received || !*received) break;
      handle(**received);
      if (waiting_) break;
    }
    if (error_) {
      child_.kill_and_reap();
      return std::unexpected(std::move(*error_));
    }
    // The socket is closed and nothing was reported: the program runs, or the child was killed before.
    process_.pid = child_.pid;
    process_.pidfd = std::move(child_.pidfd);
    return std::move(process_);
  }

 private:
  Result<void> greet() {
    std::string proc = "/proc/" + std::to_string(child_.pid) + "/";
    FASTDOCK_CHECK(write_id_maps(plan_, proc));
    if (flat_ != nullptr) FASTDOCK_CHECK(flat_->map_ids(child_.pid));
    if (plan_.oom_score_adjustment) {
      std::string value = std::to_string(*plan_.oom_score_adjustment);
      if (auto written = write_file(proc + "oom_score_adj", value); !written) {
        int number = written.error().number;
        bool forbidden = number == EACCES || number == EPERM;  // below what it was: CAP_SYS_RESOURCE
        return failed_with(number, Operation::kSetOomScore, value,
                           forbidden ? Hint::kCapabilityMissing : Hint::kNone);
      }
    }
    FASTDOCK_CHECK(answer());
    return observer_.created ? observer_.created(child_.pid) : Result<void>{};
  }

  Result<void> answer() {
    if (::send(socket_.get(), "g", 1, MSG_NOSIGNAL) == 1) return {};
    // The child has ended; why, is the next message.
    return errno == EPIPE || errno == ECONNRESET ? Result<void>{} : failed(Operation::kWaitForProcess);
  }

  void handle(Received& received) {
    const Message& message = received.message;
    switch (message.kind) {
      case MessageKind::kError:
        error_.reset();  // it says why; what we met meanwhile may be no more than that it is gone
        return fail({message.number, message.operation, std::move(received.text), message.hint});
      case MessageKind::kCloned:
        process_.memory = std::move(received.descriptor);
        return begin(adopt(message.value));
      case MessageKind::kTerminal:
        process_.terminal = std::move(received.descriptor);
        return;
      case MessageKind::kWaiting:
        waiting_ = true;
        return;
      case MessageKind::kListener:
        return listening(std::move(received.descriptor));
      case MessageKind::kReached:
        break;
    }
    bool mounted = message.value == static_cast<int>(SyncPoint::kMounted);
    const auto& callback = mounted ? observer_.mounted : observer_.ready;
    auto done = callback ? callback(child_.pid) : Result<void>{};
    if (done) done = answer();
    if (!done) fail(std::move(done.error()));
  }

  void listening(Fd listener) {
    if (!observer_.listening) {
      process_.seccomp_listener = std::move(listener);
    } else if (auto passed = observer_.listening(child_.pid, std::move(listener)); !passed) {
      fail(std::move(passed.error()));
    }
  }

  static Child adopt(pid_t pid) {
    Child child;
    child.pid = pid;
    child.pidfd = Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    return child;
  }

  void fail(Error error) {
    if (!error_) error_ = std::move(error);
    if (child_.pidfd) ::syscall(SYS_pidfd_send_signal, child_.pidfd.get(), SIGKILL, nullptr, 0);
  }

  const LaunchPlan& plan_;
  const Observer& observer_;
  Fd socket_;
  Flattened* flat_ = nullptr;
  Child child_;
  Process process_;
  std::optional<Error> error_;
  bool waiting_ = false;
};

std::uint32_t sync_points(const Observer& observer) {
  std::uint32_t points = 0;
  if (observer.mounted) points |= 1U << static_cast<unsigned>(SyncPoint::kMounted);
  // What `created` does overlaps with the child's mounts; execve must wait for it.
  if (observer.ready || observer.created) points |= 1U << static_cast<unsigned>(SyncPoint::kReady);
  return points;
}

struct Sockets {
  Fd ours, theirs;
};

Result<Sockets> make_sockets() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return failed(Operation::kCreatePipe);
  return Sockets{Fd(ends[0]), Fd(ends[1])};
}

bool needs_own_memory(const LaunchPlan& plan) {
  bool joins = false;
  for (const NamespacePlan& wanted : plan.namespaces) joins = joins || wanted.mode == NamespaceMode::kJoin;
  // At its FIFO the child outlives this process, and would see its memory go.
  return joins || makes(plan, Namespace::kTime) || !plan.start_fifo.empty();
}

// What makes the clone, on the thread that the child is to die with.
template <class Work>
auto clone_by(const Observer& observer, Work&& work) -> decltype(work()) {
  if (!observer.cloning) return work();
  decltype(work()) done;
  observer.cloning([&] { done = work(); });
  return done;
}

bool exposed(const LaunchPlan& plan) { return needs_own_memory(plan) || !makes(plan, Namespace::kUser); }

}  // namespace

Result<Process> launch(const LaunchPlan& plan, const Observer& observer) {
  FASTDOCK_TRY(Sockets sockets, make_sockets());
  Conversation conversation(plan, observer, std::move(sockets.ours));
  if (exposed(plan) && !runs_from_sealed_memory()) {
    FASTDOCK_TRY(auto helper, clone_by(observer, [&] {
                   return start_helper(plan, sync_points(observer), sockets.theirs.get());
                 }));
    sockets.theirs.reset();
    auto process = conversation.run();
    helper->reap();
    return process;
  }
  FASTDOCK_TRY(auto flat, Flattened::make(plan, sockets.theirs.get(), true));
  flat->child()->sync_points = sync_points(observer);
  FASTDOCK_TRY(Child child, clone_by(observer, [&] {
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
