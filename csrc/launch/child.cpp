#include "launch/child.h"

#include <asm/ioctls.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/if.h>
#include <linux/keyctl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <linux/sockios.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "launch/users.h"
#include "rootfs/mount_point.h"

namespace fastdock::launch {
namespace {

using child::check;
using child::Descriptor;
using child::fail;
using child::Failure;

// Everything that a step needs beside the plan.
struct State {
  const ChildPlan& plan;
  Failure failure{};
  int root = -1;      // the new root
  int proc = -1;      // a procfs that we mounted ourselves
  int terminal = -1;  // the container's side
  ResolvedUser user{};
  bool filter_loaded = false;
};

long send(int sync, const Message& message, const char* text, int descriptor) {
  if (descriptor < 0) {
    // One plain write: a seccomp filter that is loaded already will hardly forbid that.
    char packet[sizeof message + 4096];
    __builtin_memcpy(packet, &message, sizeof message);
    std::size_t size = sizeof message;
    while (*text != '\0' && size < sizeof packet) packet[size++] = *text++;
    return raw_syscall(SYS_write, sync, packet, size);
  }
  iovec parts[2] = {{const_cast<Message*>(&message), sizeof message},
                    {const_cast<char*>(text), child::length(text)}};
  msghdr header{};
  header.msg_iov = parts;
  header.msg_iovlen = parts[1].iov_len > 0 ? 2 : 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  cmsghdr* first = CMSG_FIRSTHDR(&header);
  first->cmsg_level = SOL_SOCKET;
  first->cmsg_type = SCM_RIGHTS;
  first->cmsg_len = CMSG_LEN(sizeof(int));
  *reinterpret_cast<int*>(CMSG_DATA(first)) = descriptor;
  return raw_syscall(SYS_sendmsg, sync, &header, MSG_NOSIGNAL);
}

[[noreturn]] void give_up(const State& state) {
  const Failure& failure = state.failure;
  Message message{MessageKind::kError, failure.number, failure.operation, failure.hint, 0};
  send(state.plan.sync, message, failure.path, -1);
  while (true) raw_syscall(SYS_exit_group, 127);
}

bool wait_for_word(State& state) {
  char word = 0;
  long answer = raw_syscall(SYS_read, state.plan.sync, &word, 1);
  // 0: the parent is gone, and nobody wants this container.
  if (answer == 0) return fail(state.failure, -EPIPE, Operation::kWaitForProcess, "parent");
  return check(answer, state.failure, Operation::kWaitForProcess, "parent");
}

bool reach(State& state, SyncPoint point) {
  if ((state.plan.sync_points & 1U << static_cast<unsigned>(point)) == 0) return true;
  Message message{MessageKind::kReached, 0, Operation::kNone, Hint::kNone, static_cast<std::int32_t>(point)};
  return check(send(state.plan.sync, message, "", -1), state.failure, Operation::kWaitForProcess, "parent") &&
         wait_for_word(state);
}

bool close_unneeded(State& state) {
  // At once: a copy of another launch's socket, held by a child that waits, would hide that launch's end.
  for (const DescriptorRange& range : state.plan.unneeded) {
    long answer = raw_syscall(SYS_close_range, range.first, range.last, 0);
    if (!check(answer, state.failure, Operation::kCloseDescriptors, "")) return false;
  }
  return true;
}

void reset_ignored_signals() {
  // clone3(2): CLONE_CLEAR_SIGHAND leaves ignored signals ignored (Python ignores SIGPIPE).
  struct KernelAction {
    void* handler;
    unsigned long flags;
    void* restorer;
    unsigned long mask;
  } action{};
  for (int number = 1; number <= 64; ++number)
    raw_syscall(SYS_rt_sigaction, number, &action, nullptr, sizeof action.mask);
}

bool die_with_parent(State& state) {
  if (state.plan.parent_death_signal == 0) return true;
  long answer = raw_syscall(SYS_prctl, PR_SET_PDEATHSIG, state.plan.parent_death_signal);
  return check(answer, state.failure, Operation::kSetParentDeathSignal, "");
}

// The parent may have died before the signal was asked for: then its end of the socket is closed.
bool parent_lives(State& state) {
  if (state.plan.parent_death_signal == 0) return true;
  char word = 0;
  long answer =
      raw_syscall(SYS_recvfrom, state.plan.sync, &word, 1, MSG_DONTWAIT | MSG_PEEK, nullptr, nullptr);
  return answer != 0 || fail(state.failure, -EPIPE, Operation::kSetParentDeathSignal, "parent");
}

bool join_cgroups(State& state) {
  // "0" means the writing thread.  On v1 it goes to `tasks`, not cgroup.procs: a thread that moves itself
  // needs no cgroup_threadgroup_rwsem, whose first writer waits 10 ms for an RCU grace period
  // (kernel/cgroup/cgroup.c, cgroup_procs_write_start; measured in PERFORMANCE.md).
  for (int tasks : state.plan.cgroup_tasks) {
    long answer = raw_syscall(SYS_write, tasks, "0", 1);
    if (!check(answer, state.failure, Operation::kJoinCgroup, "")) return false;
  }
  return true;
}

bool join_namespaces(State& state) {
  for (const JoinedNamespace& joined : state.plan.joined) {
    long answer = raw_syscall(SYS_setns, joined.descriptor, joined.type);
    if (!check(answer, state.failure, Operation::kJoinNamespace, joined.path)) return false;
  }
  if (state.plan.unshare_flags == 0) return true;
  long answer = raw_syscall(SYS_unshare, state.plan.unshare_flags);
  return check(answer, state.failure, Operation::kCreateNamespace, "", Hint::kNamespaceForbidden);
}

bool become_root(State& state) {
  // In a new user namespace the ids are unmapped (65534) until asked for.
  return check(raw_syscall(SYS_setgroups, 0, nullptr), state.failure, Operation::kSetGroups, "") &&
         check(raw_syscall(SYS_setresgid, 0, 0, 0), state.failure, Operation::kSetGroupId, "0") &&
         check(raw_syscall(SYS_setresuid, 0, 0, 0), state.failure, Operation::kSetUserId, "0");
}

bool have_proc(State& state) {
  if (state.proc < 0) state.proc = rootfs::open_private_proc(state.failure);
  return state.proc >= 0;
}

bool write_proc(State& state, const char* path, const char* value, Operation operation) {
  if (!have_proc(state)) return false;
  Descriptor file(raw_syscall(SYS_openat, state.proc, path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0));
  return check(file.get(), state.failure, operation, path) &&
         check(raw_syscall(SYS_write, file.get(), value, child::length(value)), state.failure, operation,
               path);
}

bool set_names(State& state) {
  const ChildPlan& plan = state.plan;
  return (plan.hostname == nullptr ||
          check(raw_syscall(SYS_sethostname, plan.hostname, child::length(plan.hostname)), state.failure,
                Operation::kSetHostname, plan.hostname)) &&
         (plan.domainname == nullptr ||
          check(raw_syscall(SYS_setdomainname, plan.domainname, child::length(plan.domainname)),
                state.failure, Operation::kSetDomainname, plan.domainname));
}

bool raise_loopback(State& state) {
  if (!state.plan.raise_loopback) return true;
  Descriptor socket(raw_syscall(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!check(socket.get(), state.failure, Operation::kRaiseLoopback, "lo")) return false;
  ifreq request{};
  request.ifr_name[0] = 'l';
  request.ifr_name[1] = 'o';
  request.ifr_flags = IFF_UP;
  return check(raw_syscall(SYS_ioctl, socket.get(), SIOCSIFFLAGS, &request), state.failure,
               Operation::kRaiseLoopback, "lo");
}

bool write_sysctls(State& state) {
  for (const rootfs::ChildSysctl& sysctl : state.plan.sysctls)
    if (!write_proc(state, sysctl.path, sysctl.value, Operation::kWriteSysctl)) return false;
  return true;
}

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

bool build_and_enter_root(State& state) {
  const ChildPlan& plan = state.plan;
  if (!plan.has_root) return set_names(state) && write_sysctls(state) && open_terminal(state);
  state.root = rootfs::build_root(plan.root, state.proc, state.failure);
  if (state.root < 0 || !open_terminal(state)) return false;
  if (!set_names(state) || !write_sysctls(state)) return false;
  if (!rootfs::protect_paths(plan.root, state.root, state.failure)) return false;
  // A procfs can be mounted in a user namespace only while a whole one is visible: before the old root goes.
  bool needs_proc = plan.apparmor_profile != nullptr || plan.selinux_label != nullptr;
  if (needs_proc && !have_proc(state)) return false;
  if (!reach(state, SyncPoint::kMounted)) return false;
  if (plan.create_working_directory) {
    Descriptor made(rootfs::open_or_create(state.root, plan.working_directory, true, state.failure));
    if (!made.ok()) {
      state.failure.operation = Operation::kChangeDirectory;
      return false;
    }
  }
  if (!rootfs::finish_root(plan.root, state.root, state.failure)) return false;
  if (!rootfs::enter_root(state.root, plan.pivot, plan.bare_mounts, state.failure)) return false;
  if (plan.final_propagation == 0) return true;
  return check(raw_syscall(SYS_mount, nullptr, "/", nullptr, plan.final_propagation, nullptr), state.failure,
               Operation::kSetPropagation, "/");
}

bool open_current_root(State& state) {
  if (state.root >= 0) return true;
  long root = raw_syscall(SYS_openat, AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
  if (!check(root, state.failure, Operation::kOpenRoot, "/")) return false;
  state.root = static_cast<int>(root);
  return true;
}

bool find_groups(State& state) {
  for (const char* name : state.plan.user.group_names) {
    Descriptor file(open_account_file(state.root, "etc/group"));
    int group_file = file.get();
    std::uint32_t gid = 0;
    long answer = resolve_group(name, descriptor_source(group_file), gid);
    if (!check(answer, state.failure, Operation::kFindGroup, name, Hint::kGroupUnknown)) return false;
    if (state.user.group_count == kMaxGroups) return fail(state.failure, -E2BIG, Operation::kFindGroup, name);
    state.user.groups[state.user.group_count++] = gid;
  }
  return true;
}

// A user given by number has the home that the image's /etc/passwd says; no line, or one that is no good:
// "/".
void find_home(State& state, std::uint32_t uid) {
  char digits[11];
  std::size_t at = sizeof digits;
  digits[--at] = '\0';
  do {
    digits[--at] = static_cast<char>('0' + uid % 10);
    uid /= 10;
  } while (uid != 0);
  Descriptor passwd(open_account_file(state.root, "etc/passwd"));
  int passwd_file = passwd.get();
  long answer = resolve_user(digits + at, descriptor_source(passwd_file), ByteSource{}, state.user);
  if (raw_failed(answer)) state.user.home[0] = '\0';
}

// The image's account files are data, read by us below the root; see users.h.
bool find_user(State& state) {
  const ChildUser& wanted = state.plan.user;
  if (!open_current_root(state)) return false;
  if (wanted.name == nullptr) {
    if (state.plan.home_slot != nullptr) find_home(state, wanted.uid);
    state.user.group_count = 0;
    state.user.uid = wanted.uid;
    state.user.gid = wanted.gid;
    for (std::uint32_t group : wanted.groups) {
      if (state.user.group_count == kMaxGroups) return fail(state.failure, -E2BIG, Operation::kSetGroups, "");
      state.user.groups[state.user.group_count++] = group;
    }
    return find_groups(state);
  }
  Descriptor passwd(open_account_file(state.root, "etc/passwd"));
  Descriptor group(open_account_file(state.root, "etc/group"));
  int passwd_file = passwd.get();
  int group_file = group.get();
  long answer =
      resolve_user(wanted.name, descriptor_source(passwd_file), descriptor_source(group_file), state.user);
  if (raw_failed(answer)) {
    bool is_group = state.user.problem == UserProblem::kGroup;
    Hint hint = answer != -ENOENT ? Hint::kNone : is_group ? Hint::kGroupUnknown : Hint::kUserUnknown;
    return fail(state.failure, answer, is_group ? Operation::kFindGroup : Operation::kFindUser, wanted.name,
                hint);
  }
  return find_groups(state);
}

bool set_limits(State& state) {
  const ChildPlan& plan = state.plan;
  for (const ChildLimit& limit : plan.limits) {
    std::uint64_t values[2] = {limit.soft, limit.hard};
    long answer = raw_syscall(SYS_prlimit64, 0, limit.resource, values, nullptr);
    Hint hint = answer == -EPERM ? Hint::kHardLimit : Hint::kNone;
    if (!check(answer, state.failure, Operation::kSetLimit, limit.name, hint)) return false;
  }
  if (plan.scheduler != nullptr && !check(raw_syscall(SYS_sched_setattr, 0, plan.scheduler, 0), state.failure,
                                          Operation::kSetScheduler, ""))
    return false;
  constexpr int kWhoIsProcess = 1;  // IOPRIO_WHO_PROCESS
  if (plan.io_priority >= 0 && !check(raw_syscall(SYS_ioprio_set, kWhoIsProcess, 0, plan.io_priority),
                                      state.failure, Operation::kSetIoPriority, ""))
    return false;
  // The count is of bits, and the kernel takes one less than it says (get_nodes, mm/mempolicy.c).
  constexpr std::size_t kBits = 8;
  if (plan.memory_policy >= 0 &&
      !check(raw_syscall(SYS_set_mempolicy, plan.memory_policy, plan.memory_nodes.data(),
                         plan.memory_nodes.size_bytes() * kBits + 1),
             state.failure, Operation::kSetMemoryPolicy, "", Hint::kMemoryPolicyRefused))
    return false;
  if (plan.personality >= 0 &&
      !check(raw_syscall(SYS_personality, plan.personality), state.failure, Operation::kSetPersonality, ""))
    return false;
  return true;
}

bool set_affinity(State& state, std::span<const unsigned long> cpus) {
  return cpus.empty() || check(raw_syscall(SYS_sched_setaffinity, 0, cpus.size_bytes(), cpus.data()),
                               state.failure, Operation::kSetAffinity, "");
}

bool set_labels(State& state) {
  const ChildPlan& plan = state.plan;
  if (plan.apparmor_profile != nullptr &&
      !write_proc(state, "self/attr/apparmor/exec", plan.apparmor_profile, Operation::kSetSecurityLabel))
    return false;
  return plan.selinux_label == nullptr ||
         write_proc(state, "self/attr/exec", plan.selinux_label, Operation::kSetSecurityLabel);
}

// The parent gave the pipes to the container's root (flatten.cpp); /dev/stdout is to be opened by this user.
void give_pipes(std::uint32_t uid) {
  for (int fd = 0; fd < 3 && uid != 0; ++fd) {
    struct stat status{};
    child::status_of(fd, status);
    if (S_ISFIFO(status.st_mode)) raw_syscall(SYS_fchown, fd, uid, -1);
  }
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

bool enter_working_directory(State& state) {
  const char* path = state.plan.working_directory;
  // Never through a magic link, never outside (CVE-2024-21626).
  Descriptor directory(child::open_in_root(state.root, path, O_PATH | O_DIRECTORY));
  if (!check(directory.get(), state.failure, Operation::kChangeDirectory, path,
             Hint::kWorkingDirectoryMissing))
    return false;
  if (!check(raw_syscall(SYS_fchdir, directory.get()), state.failure, Operation::kChangeDirectory, path))
    return false;
  char name[4096];
  long answer = raw_syscall(SYS_getcwd, name, sizeof name);
  // getcwd(2): "(unreachable)" in front of a directory that is outside of the root.
  if (answer > 0 && name[0] != '/')
    return fail(state.failure, -EXDEV, Operation::kChangeDirectory, path, Hint::kEscapesRoot);
  return check(answer, state.failure, Operation::kChangeDirectory, path);
}

bool load_filter(State& state) {
  const ChildPlan& plan = state.plan;
  if (plan.seccomp == nullptr || state.filter_loaded) return true;
  long answer = raw_syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, plan.seccomp_flags, plan.seccomp);
  if (!check(answer, state.failure, Operation::kLoadSeccomp, "",
             answer == -EINVAL ? Hint::kSeccompUnavailable : Hint::kNone))
    return false;
  state.filter_loaded = true;
  if ((plan.seccomp_flags & SECCOMP_FILTER_FLAG_NEW_LISTENER) == 0) return true;
  Descriptor listener(answer);
  Message message{MessageKind::kListener, 0, Operation::kNone, Hint::kNone, 0};
  return check(send(plan.sync, message, "", listener.get()), state.failure, Operation::kSendDescriptor,
               "listener");
}

bool set_capabilities(State& state) {
  ChildCapabilities wanted = state.plan.capabilities;
  // A user that is not root loses them at execve (capabilities(7)); gone before, they do not find a program
  // in a directory that this user may not search.  Docker's rule (moby, oci.SetCapabilities); OCI's names ids
  // and sets.
  if (state.plan.user.name != nullptr && state.user.uid != 0 && wanted.ambient == 0)
    wanted.effective = wanted.permitted = 0;
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {
      {static_cast<std::uint32_t>(wanted.effective), static_cast<std::uint32_t>(wanted.permitted),
       static_cast<std::uint32_t>(wanted.inheritable)},
      {static_cast<std::uint32_t>(wanted.effective >> 32), static_cast<std::uint32_t>(wanted.permitted >> 32),
       static_cast<std::uint32_t>(wanted.inheritable >> 32)}};
  if (!check(raw_syscall(SYS_capset, &header, data), state.failure, Operation::kSetCapabilities, "",
             Hint::kCapabilityMissing))
    return false;
  for (unsigned number = 0; number <= wanted.last; ++number) {
    if ((wanted.ambient >> number & 1) == 0) continue;
    long answer = raw_syscall(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0);
    if (!check(answer, state.failure, Operation::kSetAmbientCapabilities, "", Hint::kCapabilityMissing))
      return false;
  }
  return true;
}

bool become(State& state, long call, std::uint32_t id, Operation operation) {
  long answer = raw_syscall(call, id, id, id);
  return check(answer, state.failure, operation, "", answer == -EINVAL ? Hint::kIdNotMapped : Hint::kNone);
}

bool drop_privileges(State& state) {
  const ChildPlan& plan = state.plan;
  Failure& failure = state.failure;
  for (unsigned number = 0; number <= plan.capabilities.last; ++number) {
    if ((plan.capabilities.bounding >> number & 1) != 0) continue;
    if (!check(raw_syscall(SYS_prctl, PR_CAPBSET_DROP, number, 0, 0, 0), failure,
               Operation::kDropCapabilities, ""))
      return false;
  }
  // seccomp(2): without no_new_privs a filter needs CAP_SYS_ADMIN, which goes with the next steps.
  if (!plan.no_new_privileges && !load_filter(state)) return false;
  // What the image's /etc/group says of the user cannot be had then (crun leaves it out, too); what was asked
  // for by name is an error.
  bool groups_stay = plan.keeps_groups && plan.user.group_names.empty() && plan.user.groups.empty();
  if ((!groups_stay &&
       !check(raw_syscall(SYS_setgroups, state.user.group_count, state.user.groups), failure,
              Operation::kSetGroups, "", plan.keeps_groups ? Hint::kIdNotMapped : Hint::kNone)) ||
      !become(state, SYS_setresgid, state.user.gid, Operation::kSetGroupId) ||
      !check(raw_syscall(SYS_prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0), failure, Operation::kSetCapabilities, "") ||
      !become(state, SYS_setresuid, state.user.uid, Operation::kSetUserId) ||
      !check(raw_syscall(SYS_prctl, PR_SET_KEEPCAPS, 0, 0, 0, 0), failure, Operation::kSetCapabilities, ""))
    return false;
  if (plan.user.umask >= 0) raw_syscall(SYS_umask, plan.user.umask);
  // A change of credentials clears the signal (prctl(2), PR_SET_PDEATHSIG).
  return set_capabilities(state) && die_with_parent(state) && parent_lives(state);
}

void fill_home(State& state, char* buffer, std::size_t size) {
  if (state.plan.home_slot == nullptr) return;
  const char* home = state.user.home[0] != '\0' ? state.user.home : "/";
  const char name[] = "HOME=";
  std::size_t at = 0;
  for (; name[at] != '\0'; ++at) buffer[at] = name[at];
  while (*home != '\0' && at + 1 < size) buffer[at++] = *home++;
  buffer[at] = '\0';
  *state.plan.home_slot = buffer;
}

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

enum class Purpose : std::uint8_t { kExecute, kFind };

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

// The kernel's struct sigaction (asm/signal.h), which libc's hides.
struct KernelAction {
  void (*handler)(int);
  unsigned long flags;
  void (*restorer)();
  unsigned long mask;
};

[[noreturn]] void end_by_signal(int signal) {
  while (true) raw_syscall(SYS_exit_group, 128 + signal);
}

// Who waits to be started ends by what would end its program.  The first process of a PID namespace takes no
// signal that it has no handler for (pid_namespaces(7)).
constexpr int kEndingSignals[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};

// Before the filter, which may refuse it; the signals are blocked until allow_ending_signals().
void handle_ending_signals() {
  constexpr unsigned long kRestorer = 0x04000000;  // SA_RESTORER; it is never come to
  KernelAction action{end_by_signal, kRestorer, nullptr, 0};
  for (int signal : kEndingSignals)
    raw_syscall(SYS_rt_sigaction, signal, &action, nullptr, sizeof action.mask);
}

void allow_ending_signals() {
  unsigned long wanted = 0;
  for (int signal : kEndingSignals) wanted |= 1UL << (signal - 1);
  raw_syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &wanted, nullptr, sizeof wanted);
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

bool prepare(State& state) {
  const ChildPlan& plan = state.plan;
  reset_ignored_signals();
  if (!close_unneeded(state) || !die_with_parent(state)) return false;
  if (plan.wait_for_parent && !wait_for_word(state)) return false;
  if (!join_cgroups(state) || !set_affinity(state, plan.initial_cpus) || !join_namespaces(state))
    return false;
  // Joined, too: what is made from here on (a terminal) must belong to somebody in it.
  if ((plan.new_user_namespace || plan.joins_user_namespace) && !become_root(state)) return false;
  if (plan.new_keyring) raw_syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, nullptr);  // ENOSYS: no keyrings
  if (!raise_loopback(state) || !build_and_enter_root(state) || !find_user(state)) return false;
  return set_limits(state) && set_labels(state) && use_terminal_and_stdio(state);
}

}  // namespace

void run_child(void* argument) {
  State state{*static_cast<const ChildPlan*>(argument)};
  const ChildPlan& plan = state.plan;
  char home[4096];
  if (!prepare(state) || !reach(state, SyncPoint::kReady)) give_up(state);
  if (!enter_working_directory(state)) give_up(state);
  fill_home(state, home, sizeof home);
  // Nothing of ours may stay open in the program (CVE-2024-21626); what it keeps was named in the plan.
  raw_syscall(SYS_close_range, 3 + plan.preserve, ~0U, CLOSE_RANGE_CLOEXEC);
  // Before the filter, which may refuse it.
  if (!set_affinity(state, plan.final_cpus)) give_up(state);
  if (plan.start_fifo >= 0) handle_ending_signals();
  if (!drop_privileges(state) || (plan.start_fifo >= 0 && !wait_for_start(state))) give_up(state);
  if (plan.no_new_privileges && (!check(raw_syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
                                        state.failure, Operation::kSetNoNewPrivileges, "") ||
                                 !load_filter(state)))
    give_up(state);
  unsigned long none = 0;
  raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, nullptr, sizeof none);
  execute(state, Purpose::kExecute);
  plan.start_fifo >= 0 ? give_up_aloud(state) : give_up(state);
}

}  // namespace fastdock::launch
