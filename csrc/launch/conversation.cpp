#include "launch/conversation.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/descriptors.h"
#include "base/path.h"
#include "launch/child.h"
#include "rootfs/id_map.h"

namespace fastdock::launch {
namespace {

Result<void> write_id_maps(const LaunchPlan& plan, const std::string& proc) {
  if (plan.namespaces[static_cast<std::size_t>(Namespace::kUser)].mode != NamespaceMode::kNew) return {};
  if (auto written = write_file(proc + "uid_map", rootfs::map_text(plan.uid_map)); !written)
    return failed_with(written.error().number, Operation::kWriteUidMap, "", Hint::kUserNamespaceForbidden);
  if (auto written = write_file(proc + "gid_map", rootfs::map_text(plan.gid_map)); !written)
    return failed_with(written.error().number, Operation::kWriteGidMap, "", Hint::kUserNamespaceForbidden);
  return {};
}

Child adopt(pid_t pid) {
  Child child;
  child.pid = pid;
  child.pidfd = Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  return child;
}

}  // namespace

Result<Sockets> make_sockets() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return failed(Operation::kCreatePipe);
  return Sockets{Fd(ends[0]), Fd(ends[1])};
}

std::uint32_t sync_points(const Observer& observer) {
  std::uint32_t points = 0;
  if (observer.mounted) points |= 1U << static_cast<unsigned>(SyncPoint::kMounted);
  // What `created` does overlaps with the child's mounts; execve must wait for it.
  if (observer.ready || observer.created) points |= 1U << static_cast<unsigned>(SyncPoint::kReady);
  return points;
}

struct Conversation::Received {
  Message message;
  std::string text;
  Fd descriptor;
};

// The next message, or nothing at the end: every other end of the socket is closed, by execve or exit.
Result<std::optional<Conversation::Received>> Conversation::receive() {
  const int socket = socket_.get();
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

void Conversation::begin(Child child, Flattened* flat) {
  child_ = std::move(child);
  flat_ = flat;
  if (auto greeted = greet(); !greeted) fail(std::move(greeted.error()));
}

Result<void> Conversation::listen(const bool& done) {
  while (!done) {
    auto received = receive();
    if (!received) fail(std::move(received.error()));
    if (!received || !*received) break;
    handle(**received);
  }
  if (!error_) return {};
  child_.kill_and_reap();
  return std::unexpected(std::move(*error_));
}

Result<Process> Conversation::run() {
  FASTDOCK_CHECK(listen(waiting_));
  // The socket is closed and nothing was reported: the program runs, or the child was killed before.
  process_.pid = child_.pid;
  process_.pidfd = std::move(child_.pidfd);
  return std::move(process_);
}

Result<void> Conversation::run_until_held() {
  FASTDOCK_CHECK(listen(held_));
  if (held_) return {};
  child_.kill_and_reap();
  return failed_with(ESRCH, Operation::kWaitForProcess, std::to_string(child_.pid), Hint::kProcessGone);
}

Result<void> Conversation::go(const std::array<int, 3>& streams) {
  held_ = false;
  if (send_with_descriptors(socket_.get(), "g", streams) == 1) return {};
  return failed(Operation::kSendDescriptor, "standard streams",
                errno == EPIPE || errno == ECONNRESET ? Hint::kProcessGone : Hint::kNone);
}

Result<void> Conversation::greet() {
  std::string proc = "/proc/" + std::to_string(child_.pid) + "/";
  if (observer_.cloned) FASTDOCK_CHECK(observer_.cloned(child_.pid));
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

Result<void> Conversation::answer() {
  if (::send(socket_.get(), "g", 1, MSG_NOSIGNAL) == 1) return {};
  // The child has ended; why, is the next message.
  return errno == EPIPE || errno == ECONNRESET ? Result<void>{} : failed(Operation::kWaitForProcess);
}

void Conversation::handle(Received& received) {
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
    case MessageKind::kMapIds:
      return answer_after(map_ids(message.value, received.descriptor));
    case MessageKind::kReached:
      break;
  }
  bool mounted = message.value == static_cast<int>(SyncPoint::kMounted);
  held_ = !mounted && flat_ != nullptr && flat_->child()->held;
  if (held_) return;
  const auto& callback = mounted ? observer_.mounted : observer_.ready;
  answer_after(callback ? callback(child_.pid) : Result<void>{});
}

void Conversation::answer_after(Result<void> done) {
  if (done) done = answer();
  if (!done) fail(std::move(done.error()));
}

// What the child has found below its root and may not map itself.
Result<void> Conversation::map_ids(int number, const Fd& tree) {
  const Mount& mount = plan_.mounts.at(static_cast<std::size_t>(number));
  const NamespacePlan& users = plan_.namespaces[static_cast<std::size_t>(Namespace::kUser)];
  Fd joined;
  if (users.mode == NamespaceMode::kJoin) {
    FASTDOCK_TRY(joined, open_file(users.path, O_RDONLY));
  }
  return rootfs::map_ids_of(mount, tree.get(), joined.get());
}

void Conversation::listening(Fd listener) {
  if (!observer_.listening) {
    process_.seccomp_listener = std::move(listener);
  } else if (auto passed = observer_.listening(child_.pid, std::move(listener)); !passed) {
    fail(std::move(passed.error()));
  }
}

void Conversation::fail(Error error) {
  if (!error_) error_ = std::move(error);
  if (child_.pidfd) ::syscall(SYS_pidfd_send_signal, child_.pidfd.get(), SIGKILL, nullptr, 0);
}

}  // namespace fastdock::launch
