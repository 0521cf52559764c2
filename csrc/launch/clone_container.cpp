#include "launch/clone_container.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "base/path.h"
#include "launch/child_steps.h"

namespace fastdock::launch {
namespace {

Result<void> write_clock_offsets(const LaunchPlan& plan) {
  // time_namespaces(7): the offsets are written before the first process enters, from the one that unshared
  // it.
  std::string text;
  for (const ClockOffset& offset : plan.clock_offsets)
    text += std::to_string(offset.clock) + ' ' + std::to_string(offset.seconds) + ' ' +
            std::to_string(offset.nanoseconds) + '\n';
  if (text.empty()) return {};
  auto written = write_file("/proc/self/timens_offsets", text);
  if (!written) return failed_with(written.error().number, Operation::kSetClockOffset, text);
  return {};
}

// What setns(2) and unshare(2) changed for the children of this process, put back when it goes.
class ChildNamespaces {
 public:
  Result<void> remember(const char* file, int type) {
    FASTDOCK_TRY(Fd own, open_file(std::string("/proc/self/ns/") + file, O_RDONLY));
    own_.emplace_back(std::move(own), type);
    return {};
  }
  ~ChildNamespaces() {
    for (const auto& [descriptor, type] : own_) ::setns(descriptor.get(), type);
  }

 private:
  std::vector<std::pair<Fd, int>> own_;
};

// A process that goes into the user namespace, clones there, and ends; there is no way back for itself.
// It must not itself be in a PID namespace that its child joins: clone(2) gives it the child's id as its own
// PID namespace counts, and here that number would be some other process.
struct Intermediate {
  const std::vector<JoinedNamespace>& joined_for_child;
  std::uint64_t flags;
  ChildPlan* plan;  // our copy
  int cgroup;
  int owner;
  int answer;  // a pipe: the pid, or -errno
};

[[noreturn]] void clone_inside(void* argument) {
  const auto& step = *static_cast<const Intermediate*>(argument);
  int answer = 0;
  for (const JoinedNamespace& joined : step.joined_for_child)
    if (answer == 0 && ::setns(joined.descriptor, joined.type) != 0) answer = -errno;
  // Now, with the host's rights: what belongs to another user namespace cannot be joined from inside this
  // one.  But in the other's cgroup namespace the clone could not go into a cgroup beside it (ENOENT from
  // cgroup_attach_permissions() where v2 is mounted with nsdelegate).
  if (answer == 0) step.plan->already_joined = steps::join_from_outside(step.plan->joined, CLONE_NEWCGROUP);
  if (answer == 0 && ::setns(step.owner, CLONE_NEWUSER) != 0) answer = -errno;
  if (answer == 0) {
    auto child = clone_child(step.flags | CLONE_PARENT, run_child, step.plan, step.cgroup);
    answer = child ? child->pid : -child.error().number;
  }
  ssize_t written = ::write(step.answer, &answer, sizeof answer);
  ::_exit(written == sizeof answer ? 0 : 1);
}

Result<Child> clone_in_user_namespace(Flattened& flat, std::uint64_t flags, int cgroup) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return failed(Operation::kCreatePipe);
  Fd ours(ends[0]);
  Fd theirs(ends[1]);
  Intermediate step{flat.joined_by_parent(),    flags,       flat.child(), cgroup,
                    flat.owner_of_namespaces(), theirs.get()};
  FASTDOCK_TRY(Child intermediate, clone_child(flags & CLONE_PARENT, clone_inside, &step));
  theirs.reset();
  int answer = -EPIPE;
  ssize_t count = ::read(ours.get(), &answer, sizeof answer);
  if ((flags & CLONE_PARENT) == 0) intermediate.reap();
  if (count != sizeof answer) return failed_with(EPIPE, Operation::kCloneProcess);
  if (answer < 0)
    return failed_with(-answer, Operation::kCreateNamespace, "in the user namespace",
                       Hint::kNamespaceForbidden);
  Child child;
  child.pid = answer;
  child.pidfd = Fd(static_cast<int>(::syscall(SYS_pidfd_open, answer, 0)));
  return child;
}

bool makes(const LaunchPlan& plan, Namespace kind) {
  return plan.namespaces[static_cast<std::size_t>(kind)].mode == NamespaceMode::kNew;
}

}  // namespace

bool needs_own_memory(const LaunchPlan& plan) {
  bool joins = false;
  for (const NamespacePlan& wanted : plan.namespaces) joins = joins || wanted.mode == NamespaceMode::kJoin;
  // At its FIFO the child outlives this process, and would see its memory go.  And processes that share a
  // memory have one oom_score_adj (fs/proc/base.c, __set_oom_adj): the child's would be the caller's, for
  // ever.
  return joins || makes(plan, Namespace::kTime) || !plan.start_fifo.empty() ||
         plan.oom_score_adjustment.has_value();
}

bool is_exposed(const LaunchPlan& plan) { return needs_own_memory(plan) || !makes(plan, Namespace::kUser); }

Result<Child> clone_container(const LaunchPlan& plan, Flattened& flat, std::uint64_t flags) {
  ChildNamespaces before;
  flags |= flat.clone_flags();
  if ((flags & CLONE_NEWTIME) != 0) {
    FASTDOCK_CHECK(before.remember("time", CLONE_NEWTIME));
    if (::unshare(CLONE_NEWTIME) != 0)
      return failed(Operation::kCreateNamespace, "time", Hint::kNamespaceForbidden);
    FASTDOCK_CHECK(write_clock_offsets(plan));
    flags &= ~static_cast<std::uint64_t>(CLONE_NEWTIME);
  }
  if (flat.owner_of_namespaces() >= 0) return clone_in_user_namespace(flat, flags, plan.cgroup_directory);
  for (const JoinedNamespace& joined : flat.joined_by_parent()) {
    FASTDOCK_CHECK(before.remember(joined.type == CLONE_NEWPID ? "pid" : "time", joined.type));
    if (::setns(joined.descriptor, joined.type) != 0) return failed(Operation::kJoinNamespace, joined.path);
  }
  // A copy of our memory, not a share of it: the child is on its way to where others can reach it
  // (CVE-2016-9962), and a time namespace cannot be entered with shared memory (copy_namespaces).
  return clone_child(flags, run_child, flat.child(), plan.cgroup_directory);
}

}  // namespace fastdock::launch
