#include "launch/clone_container.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>

#include <string>

#include "base/path.h"

namespace fastdock::launch {
namespace {

Result<void> write_clock_offsets(const LaunchPlan& plan) {
  // time_namespaces(7): the offsets are written before the first process enters, from the one that unshared it.
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

}  // namespace

Result<Child> clone_container(const LaunchPlan& plan, Flattened& flat, std::uint64_t flags) {
  ChildNamespaces before;
  flags |= flat.clone_flags();
  if ((flags & CLONE_NEWTIME) != 0) {
    FASTDOCK_CHECK(before.remember("time", CLONE_NEWTIME));
    if (::unshare(CLONE_NEWTIME) != 0) return failed(Operation::kCreateNamespace, "time", Hint::kNamespaceForbidden);
    FASTDOCK_CHECK(write_clock_offsets(plan));
    flags &= ~static_cast<std::uint64_t>(CLONE_NEWTIME);
  }
  for (const JoinedNamespace& joined : flat.joined_by_parent()) {
    FASTDOCK_CHECK(before.remember(joined.type == CLONE_NEWPID ? "pid" : "time", joined.type));
    if (::setns(joined.descriptor, joined.type) != 0) return failed(Operation::kJoinNamespace, joined.path);
  }
  // A copy of our memory, not a share of it: the child is on its way to where others can reach it
  // (CVE-2016-9962), and a time namespace cannot be entered with shared memory (copy_namespaces).
  return clone_child(flags, run_child, flat.child(), plan.cgroup_directory);
}

}  // namespace fastdock::launch
