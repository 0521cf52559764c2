#include "oci/cgroups.h"

#include <linux/mount.h>

#include <algorithm>
#include <cerrno>
#include <set>

namespace fastdock::oci {
namespace {

using rootfs::Mount;

std::string last_component(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// A user namespace may not change the access times of a mount that it got (mount_namespaces(7)); these are of
// no use here, callers ask for relatime, and systemd mounts v1's directory with strictatime.
constexpr std::uint64_t kAccessTime = MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME;

Mount bind_of(const std::string& source, const std::string& destination, const Mount& wanted) {
  Mount bind;
  bind.type = "bind";
  bind.source = source;
  bind.destination = destination;
  bind.attributes_set = wanted.attributes_set & ~kAccessTime;
  bind.attributes_clear = wanted.attributes_clear & ~kAccessTime;
  return bind;
}

Mount own_directory(const cgroup::Hierarchy& hierarchy, const std::string& path,
                    const std::string& destination, const Mount& wanted) {
  Mount bind = bind_of(cgroup::directory_of(hierarchy, path), destination, wanted);
  bind.late_source = true;
  return bind;
}

bool has_own_view(const launch::LaunchPlan& plan) {
  return plan.namespaces[static_cast<std::size_t>(launch::Namespace::kCgroup)].mode !=
         launch::NamespaceMode::kHost;
}

// For a container that has no cgroup of its own: read-only (CVE-2023-25809), and where it has a view of its
// own, from the cgroup that it shares with us, as a new mount of cgroup2 would show.
Mount shared_view(const cgroup::Hierarchies& hierarchies, const launch::LaunchPlan& plan,
                  const Mount& wanted) {
  std::string source = "/sys/fs/cgroup";
  if (hierarchies.version() == cgroup::Version::kV2 && has_own_view(plan))
    source = hierarchies.unified()->mount_point + hierarchies.unified()->own;
  Mount bind = bind_of(source, wanted.destination, wanted);
  bind.attributes_clear = 0;  // what it has may be locked, as its access time is
  bind.recursive = true;
  bind.recursive_set = MOUNT_ATTR_RDONLY;
  return bind;
}

void add_v1(const cgroup::Hierarchies& hierarchies, const std::string& path, const Mount& wanted,
            std::vector<Mount>& mounts, std::vector<rootfs::Link>& links) {
  Mount top;
  top.type = "tmpfs";
  top.source = "tmpfs";
  top.destination = wanted.destination;
  top.options = "mode=755";
  top.attributes_set = wanted.attributes_set;
  mounts.push_back(top);
  std::set<std::string> done;
  for (const cgroup::Hierarchy& hierarchy : hierarchies.all()) {
    if (hierarchy.base.empty()) continue;
    std::string name = last_component(hierarchy.mount_point);
    if (!done.insert(name).second) continue;
    mounts.push_back(own_directory(hierarchy, path, wanted.destination + "/" + name, wanted));
    // "cpu" and "cpuacct" for a hierarchy that is mounted as "cpu,cpuacct".
    for (std::size_t at = 0; name.find(',') != std::string::npos && at < name.size();) {
      std::size_t end = std::min(name.find(',', at), name.size());
      links.push_back({name, wanted.destination + "/" + name.substr(at, end - at)});
      at = end + 1;
    }
  }
}

}  // namespace

Result<std::string> cgroup_path(const Config& config, const std::string& id) {
  const std::string& path = config.cgroups_path;
  // config-linux.md: relative to a place of the runtime's choice.
  if (path.empty()) return id;
  std::string clean;
  for (std::size_t at = 0; at < path.size();) {
    std::size_t end = std::min(path.find('/', at), path.size());
    std::string part = path.substr(at, end - at);
    at = end + 1;
    if (part.empty() || part == ".") continue;
    if (part == "..")
      return failed_with(EINVAL, Operation::kParse, "config.json: linux.cgroupsPath must not contain ..");
    if (!clean.empty()) clean += '/';
    clean += part;
  }
  if (clean.empty())
    return failed_with(EINVAL, Operation::kParse, "config.json: linux.cgroupsPath names no cgroup");
  return path.starts_with('/') ? "/" + clean : clean;
}

Result<void> add_cgroup_mounts(const std::string& path, launch::LaunchPlan& plan) {
  auto is_cgroup = [](const Mount& mount) { return mount.type == "cgroup"; };
  if (std::ranges::none_of(plan.mounts, is_cgroup)) return {};
  std::vector<Mount> mounts;
  mounts.reserve(plan.mounts.size() + 16);
  FASTDOCK_TRY(const cgroup::Hierarchies* hierarchies, cgroup::Hierarchies::machine());
  auto is_ours = [](const cgroup::Hierarchy& hierarchy) { return !hierarchy.base.empty(); };
  const bool v1 = hierarchies->version() == cgroup::Version::kV1;
  const bool has_own =
      v1 ? std::ranges::any_of(hierarchies->all(), is_ours) : is_ours(*hierarchies->unified());
  for (Mount& mount : plan.mounts) {
    if (mount.type != "cgroup") {
      mounts.push_back(std::move(mount));
      continue;
    }
    if (!has_own) {
      mounts.push_back(shared_view(*hierarchies, plan, mount));
    } else if (v1) {
      add_v1(*hierarchies, path, mount, mounts, plan.links);
    } else if (has_own_view(plan)) {
      // A bind of the container's own directory is what a cgroup namespace would show, without the 6 ms that
      // a new mount of cgroup2 can take (PERFORMANCE.md).
      mounts.push_back(own_directory(*hierarchies->unified(), path, mount.destination, mount));
    } else {
      mounts.push_back(bind_of(hierarchies->unified()->mount_point, mount.destination, mount));
    }
  }
  plan.mounts = std::move(mounts);
  return {};
}

}  // namespace fastdock::oci
