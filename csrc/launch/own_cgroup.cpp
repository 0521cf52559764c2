#include "launch/own_cgroup.h"

namespace fastdock::launch {
namespace {

std::string directory_shown_by(const rootfs::Mount& mount, const cgroup::Cgroup& group) {
  if (mount.type == "cgroup2") return group.unified_directory();
  if (mount.type != "cgroup") return "";
  // Its options name the controllers of one hierarchy: the first will do.
  const auto controller = cgroup::controller_named(mount.options.substr(0, mount.options.find(',')));
  return controller ? group.directory_for(*controller) : "";
}

}  // namespace

Result<cgroup::Join> start_in(const cgroup::Cgroup& group, LaunchPlan& plan) {
  FASTDOCK_TRY(cgroup::Join join, group.join());
  for (const Fd& tasks : join.tasks) plan.cgroup_tasks.push_back(tasks.get());
  plan.cgroup_directory = join.directory.get();
  return join;
}

// What a new mount in that namespace would show: cgroup_do_get_tree() gives it the same superblock and the
// same directory (kernel/cgroup/cgroup.c).  But for a v1 hierarchy the kernel waits for dying cgroups first,
// with everybody's lock in its hand (cgroup1_get_tree): three such mounts were 5 % of a start.
void show_own_cgroup(const cgroup::Cgroup& group, LaunchPlan& plan) {
  if (plan.namespaces[static_cast<std::size_t>(Namespace::kCgroup)].mode != NamespaceMode::kNew) return;
  for (rootfs::Mount& mount : plan.mounts) {
    std::string directory = directory_shown_by(mount, group);
    if (directory.empty()) continue;
    mount.type = "bind";
    mount.source = std::move(directory);
    mount.options.clear();
  }
}

}  // namespace fastdock::launch
