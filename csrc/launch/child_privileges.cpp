#include <linux/capability.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <sys/prctl.h>

#include "launch/child_steps.h"

namespace fastdock::launch::steps {
namespace {

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

}  // namespace

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

}  // namespace fastdock::launch::steps
