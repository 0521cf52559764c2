#include <asm/ioctls.h>
#include <linux/mount.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "launch/child_steps.h"
#include "rootfs/mount_point.h"

namespace fastdock::launch::steps {
namespace {

// The container or its image may have put something else there, which an open would wait at, or trigger
// (CVE-2025-52565).
bool is_terminal_multiplexer(State& state, int base, const char* path) {
  Descriptor node(base >= 0 ? child::open_in_root(base, path, O_PATH | O_NOFOLLOW)
                            : raw_syscall(SYS_openat, AT_FDCWD, path, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0));
  if (!check(node.get(), state.failure, Operation::kOpenTerminal, path)) return false;
  struct stat status{};
  child::status_of(node.get(), status);
  constexpr unsigned kNumber = 5 << 8 | 2;  // Documentation/admin-guide/devices.txt
  if (S_ISCHR(status.st_mode) && status.st_rdev == kNumber) return true;
  return fail(state.failure, -ENODEV, Operation::kOpenTerminal, path);
}

// The parent gave the pipes to the container's root (flatten.cpp); /dev/stdout is to be opened by this user.
void give_pipes(std::uint32_t uid) {
  for (int fd = 0; fd < 3 && uid != 0; ++fd) {
    struct stat status{};
    child::status_of(fd, status);
    if (S_ISFIFO(status.st_mode)) raw_syscall(SYS_fchown, fd, uid, -1);
  }
}

}  // namespace

bool open_terminal(State& state) {
  if (!state.plan.terminal) return true;
  Failure& failure = state.failure;
  int base = state.root >= 0 ? state.root : AT_FDCWD;
  const char* path = state.root >= 0 ? "dev/pts/ptmx" : "/dev/pts/ptmx";
  if (!is_terminal_multiplexer(state, base, path)) return false;
  Descriptor ours(state.root >= 0
                      ? child::open_in_root(base, path, O_RDWR | O_NOCTTY)
                      : raw_syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_NOCTTY | O_CLOEXEC, 0));
  if (!check(ours.get(), failure, Operation::kOpenTerminal, path)) return false;
  int unlocked = 0;
  if (!check(raw_syscall(SYS_ioctl, ours.get(), TIOCSPTLCK, &unlocked), failure, Operation::kOpenTerminal,
             path))
    return false;
  // TIOCGPTPEER opens the other side without a path that could be exchanged (CVE-2025-52565).
  long peer = raw_syscall(SYS_ioctl, ours.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (!check(peer, failure, Operation::kOpenTerminal, path)) return false;
  state.terminal = static_cast<int>(peer);
  if (state.plan.rows != 0 || state.plan.columns != 0) {
    winsize size{state.plan.rows, state.plan.columns, 0, 0};
    if (!check(raw_syscall(SYS_ioctl, ours.get(), TIOCSWINSZ, &size), failure, Operation::kSetTerminalSize,
               ""))
      return false;
  }
  if (state.plan.plain_newlines) {
    // The kernel's struct termios (asm/termbits.h), which libc's hides: c_iflag, then c_oflag; ONLCR is 4.
    unsigned attributes[16] = {};
    raw_syscall(SYS_ioctl, state.terminal, TCGETS, attributes);
    attributes[1] &= ~4U;
    raw_syscall(SYS_ioctl, state.terminal, TCSETS, attributes);
  }
  Message message{MessageKind::kTerminal, 0, Operation::kNone, Hint::kNone, 0};
  if (!check(send(state.plan.sync, message, "", ours.get()), failure, Operation::kSendDescriptor, path))
    return false;
  if (!state.plan.console || state.root < 0) return true;
  Descriptor tree(
      raw_syscall(SYS_open_tree, state.terminal, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH));
  if (!check(tree.get(), failure, Operation::kOpenTerminal, "/dev/console")) return false;
  Descriptor target(rootfs::open_or_create(state.root, "/dev/console", false, failure));
  return target.ok() && check(raw_syscall(SYS_move_mount, tree.get(), "", target.get(), "",
                                          MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH),
                              failure, Operation::kAttachMount, "/dev/console");
}

bool use_terminal_and_stdio(State& state) {
  const ChildPlan& plan = state.plan;
  if (plan.new_session) raw_syscall(SYS_setsid);  // fails only for a group leader, which a clone is not
  for (int target = 0; target < 3; ++target) {
    int source = state.terminal >= 0 ? state.terminal : plan.stdio[target];
    if (source == target) continue;
    if (!check(raw_syscall(SYS_dup3, source, target, 0), state.failure, Operation::kRedirectStdio, ""))
      return false;
  }
  if (state.terminal < 0) {
    give_pipes(state.user.uid);
    return true;
  }
  if (!check(raw_syscall(SYS_ioctl, 0, TIOCSCTTY, 0), state.failure, Operation::kSetControllingTerminal, ""))
    return false;
  return check(raw_syscall(SYS_fchown, 0, state.user.uid, -1), state.failure, Operation::kSetOwner,
               "/dev/console");
}

bool hold(State& state) {
  const Operation operation = Operation::kWaitForProcess;
  if (!tell_reached(state, SyncPoint::kReady)) return false;
  char word = 0;
  iovec part{&word, 1};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  constexpr std::size_t kStreams = 3;
  alignas(cmsghdr) char control[CMSG_SPACE(kStreams * sizeof(int))] = {};
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  long answer = raw_syscall(SYS_recvmsg, state.plan.sync, &header, MSG_CMSG_CLOEXEC);
  // 0: the parent is gone, and nobody wants this container.
  if (answer == 0) return fail(state.failure, -EPIPE, operation, "parent");
  if (!check(answer, state.failure, operation, "parent")) return false;
  const cmsghdr* first = CMSG_FIRSTHDR(&header);
  if (first == nullptr || first->cmsg_len != CMSG_LEN(kStreams * sizeof(int)))
    return fail(state.failure, -EBADMSG, operation, "parent");
  const auto* streams = reinterpret_cast<const int*>(CMSG_DATA(first));
  for (int target = 0; target < 3; ++target) {
    if (!check(raw_syscall(SYS_dup3, streams[target], target, 0), state.failure, Operation::kRedirectStdio,
               ""))
      return false;
  }
  give_pipes(state.user.uid);
  return true;
}

}  // namespace fastdock::launch::steps
