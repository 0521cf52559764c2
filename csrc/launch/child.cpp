#include "launch/child.h"

#include <linux/close_range.h>
#include <linux/keyctl.h>
#include <signal.h>
#include <sys/prctl.h>

#include "launch/child_steps.h"
#include "rootfs/mount_point.h"

namespace fastdock::launch {
namespace {

using namespace steps;

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
  const KernelAction action{};
  for (int number = 1; number <= 64; ++number)
    raw_syscall(SYS_rt_sigaction, number, &action, nullptr, sizeof action.mask);
}

bool create_working_directory(State& state) {
  const ChildPlan& plan = state.plan;
  if (!plan.create_working_directory || !plan.has_root) return true;
  Descriptor made(rootfs::open_or_create(state.root, plan.working_directory, true, state.failure));
  if (made.ok()) return true;
  state.failure.operation = Operation::kChangeDirectory;
  return false;
}

bool have_ids_mapped(void* who, std::size_t mount, int tree) {
  State& state = *static_cast<State*>(who);
  Message message{MessageKind::kMapIds, 0, Operation::kNone, Hint::kNone, static_cast<std::int32_t>(mount)};
  return check(send(state.plan.sync, message, "", tree), state.failure, Operation::kWaitForProcess,
               "parent") &&
         wait_for_word(state);
}

bool enter_other_root(State& state) {
  const int root = state.plan.other_root;
  return root < 0 || rootfs::enter_root(root, rootfs::RootChange::kChroot, {}, state.failure);
}

bool build_and_enter_root(State& state) {
  const ChildPlan& plan = state.plan;
  if (!plan.has_root)
    return enter_other_root(state) && set_names(state) && write_sysctls(state) && open_terminal(state);
  state.root = rootfs::build_root(plan.root, {have_ids_mapped, &state}, state.proc, state.failure);
  if (state.root < 0 || !open_terminal(state)) return false;
  if (!set_names(state) || !write_sysctls(state)) return false;
  if (!rootfs::protect_paths(plan.root, state.root, state.failure)) return false;
  // A procfs can be mounted in a user namespace only while a whole one is visible: before the old root goes.
  bool needs_proc = plan.apparmor_profile != nullptr || plan.selinux_label != nullptr;
  if (needs_proc && !have_proc(state)) return false;
  if (!reach(state, SyncPoint::kMounted)) return false;
  if (!create_working_directory(state)) return false;
  if (!rootfs::finish_root(plan.root, state.root, state.failure)) return false;
  if (!rootfs::enter_root(state.root, plan.root_change, plan.bare_mounts, state.failure)) return false;
  if (plan.final_propagation == 0) return true;
  return check(raw_syscall(SYS_mount, nullptr, "/", nullptr, plan.final_propagation, nullptr), state.failure,
               Operation::kSetPropagation, "/");
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
  if (!prepare(state)) give_up(state);
  if (plan.held_in_filter && !plan.no_new_privileges && !load_filter(state)) give_up(state);
  // Held: the plan's program, and with it the directory, is another one afterwards.
  if (plan.held ? !hold(state) || !create_working_directory(state) : !reach(state, SyncPoint::kReady))
    give_up(state);
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
