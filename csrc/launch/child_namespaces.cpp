#include <linux/if.h>
#include <linux/sched.h>
#include <linux/sockios.h>
#include <sys/socket.h>

#include "launch/child_steps.h"

namespace fastdock::launch::steps {
namespace {

bool write_proc(State& state, const char* path, const char* value, Operation operation) {
  if (!have_proc(state)) return false;
  Descriptor file(raw_syscall(SYS_openat, state.proc, path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0));
  return check(file.get(), state.failure, operation, path) &&
         check(raw_syscall(SYS_write, file.get(), value, child::length(value)), state.failure, operation,
               path);
}

}  // namespace

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

// They need not belong to that user namespace, and from inside of it only its own can be joined (setns(2)).
// As runc 1.2 and later.
std::uint64_t join_from_outside(std::span<const JoinedNamespace> joined, int without) {
  std::uint64_t done = 0;
  for (std::size_t i = 0; i < joined.size(); ++i)
    if (joined[i].type != CLONE_NEWUSER && joined[i].type != without &&
        !raw_failed(raw_syscall(SYS_setns, joined[i].descriptor, joined[i].type)))
      done |= std::uint64_t{1} << i;
  return done;
}

bool join_namespaces(State& state) {
  const std::span<const JoinedNamespace> all = state.plan.joined;
  std::uint64_t done = state.plan.already_joined;
  if (!all.empty() && all.front().type == CLONE_NEWUSER) done |= join_from_outside(all);
  for (std::size_t i = 0; i < all.size(); ++i) {
    if ((done >> i & 1) != 0) continue;
    long answer = raw_syscall(SYS_setns, all[i].descriptor, all[i].type);
    if (!check(answer, state.failure, Operation::kJoinNamespace, all[i].path)) return false;
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

bool set_labels(State& state) {
  const ChildPlan& plan = state.plan;
  if (plan.apparmor_profile != nullptr &&
      !write_proc(state, "self/attr/apparmor/exec", plan.apparmor_profile, Operation::kSetSecurityLabel))
    return false;
  return plan.selinux_label == nullptr ||
         write_proc(state, "self/attr/exec", plan.selinux_label, Operation::kSetSecurityLabel);
}

}  // namespace fastdock::launch::steps
