#include "cgroup/hierarchies.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <optional>

#include "base/path.h"
#include "cgroup/parse.h"

namespace fastdock::cgroup {
namespace {

// v2 has these in every cgroup, whatever cgroup.subtree_control says.
constexpr ControllerSet kImplicit{Controller::kCpuacct, Controller::kDevices, Controller::kFreezer,
                                  Controller::kPerfEvent};

// The own cgroup as seen below a mount whose top is `root`; "" also where it cannot be seen (it is outside
// of the mount, or of the cgroup namespace: "/../..").
std::string below_root(const std::string& path, const std::string& root) {
  if (path.starts_with("/..") || path == "/") return "";
  if (root == "/") return path;
  if (path.starts_with(root + "/")) return path.substr(root.size());
  return "";
}

// The v1 hierarchy name: "systemd" of "rw,name=systemd" or of "name=systemd".
std::string name_in(std::string_view options) {
  std::size_t at = options.find("name=");
  if (at == std::string_view::npos) return "";
  return std::string(options.substr(at + 5, options.substr(at + 5).find(',')));
}

bool is_cgroup_mount(const Hierarchy& hierarchy) {
  // A later mount may lie on top of the one that mountinfo shows.
  struct statfs status{};
  if (::statfs(hierarchy.mount_point.c_str(), &status) != 0) return false;
  auto magic = static_cast<unsigned long>(status.f_type);
  return magic == (hierarchy.version == Version::kV2 ? CGROUP2_SUPER_MAGIC : CGROUP_SUPER_MAGIC);
}

bool may_create_in(const std::string& directory, Version version) {
  if (::faccessat(AT_FDCWD, directory.c_str(), W_OK | X_OK, AT_EACCESS) != 0) return false;
  // cgroups(7), "Delegation": moving a process also takes writing to cgroup.procs of the common ancestor.
  return version == Version::kV1 ||
         ::faccessat(AT_FDCWD, (directory + "/cgroup.procs").c_str(), W_OK, AT_EACCESS) == 0;
}

// The topmost directory from the mount point down to the own cgroup in which we may create cgroups.
std::string find_base(const Hierarchy& hierarchy) {
  std::size_t end = 0;
  while (true) {
    std::string directory = hierarchy.mount_point + hierarchy.own.substr(0, end);
    if (may_create_in(directory, hierarchy.version)) return directory;
    if (end >= hierarchy.own.size()) return "";
    end = std::min(hierarchy.own.find('/', end + 1), hierarchy.own.size());
  }
}

// What v2 offers where we are.
void look_for_controllers(Hierarchy& hierarchy) {
  const std::string& seen_from = hierarchy.base.empty() ? hierarchy.mount_point : hierarchy.base;
  if (auto text = read_file(seen_from + "/cgroup.controllers"))
    hierarchy.controllers = kImplicit | parse_controllers(*text, ' ');
}

}  // namespace

Hierarchies Hierarchies::parse(std::string_view mountinfo, std::string_view memberships) {
  auto joined = parse_memberships(memberships);
  Hierarchies result;
  for (const Mount& mount : parse_mountinfo(mountinfo)) {
    Hierarchy hierarchy;
    hierarchy.version = mount.v2 ? Version::kV2 : Version::kV1;
    if (mount.v2) {
      hierarchy.controllers = kImplicit;
    } else {
      hierarchy.controllers = parse_controllers(mount.options, ',');
      if (hierarchy.controllers.empty()) hierarchy.name = name_in(mount.options);
    }
    auto same = [&](const Hierarchy& other) {
      return other.version == hierarchy.version && other.controllers == hierarchy.controllers &&
             other.name == hierarchy.name;
    };
    hierarchy.mount_point = mount.mount_point == "/" ? "" : mount.mount_point;
    // Mounted a second time; in the same place it covers the first, which may show another cgroup as its top.
    if (auto first = std::ranges::find_if(result.all_, same); first != result.all_.end()) {
      if (first->mount_point != hierarchy.mount_point) continue;
      result.all_.erase(first);
    }
    for (const Membership& membership : joined) {
      bool fits = mount.v2 ? membership.hierarchy == 0 && membership.controllers.empty()
                           : membership.hierarchy != 0 &&
                                 parse_controllers(membership.controllers, ',') == hierarchy.controllers &&
                                 name_in(membership.controllers) == hierarchy.name;
      if (fits) hierarchy.own = below_root(membership.path, mount.root);
    }
    hierarchy.base = hierarchy.mount_point;
    result.all_.push_back(std::move(hierarchy));
  }
  std::stable_sort(result.all_.begin(), result.all_.end(),
                   [](const Hierarchy& a, const Hierarchy& b) { return a.version < b.version; });
  return result;
}

void Hierarchies::find_bases() {
  std::erase_if(all_, [](const Hierarchy& hierarchy) { return !is_cgroup_mount(hierarchy); });
  for (Hierarchy& hierarchy : all_) {
    hierarchy.base = find_base(hierarchy);
    if (hierarchy.version == Version::kV1) continue;
    look_for_controllers(hierarchy);
  }
}

Result<Hierarchies*> Hierarchies::found() {
  static std::mutex mutex;
  // Never destroyed: sessions end while the program does.
  static auto& found = *new std::optional<Hierarchies>;
  std::scoped_lock lock(mutex);
  if (!found) {
    FASTDOCK_TRY(std::string mountinfo, read_file("/proc/self/mountinfo"));
    FASTDOCK_TRY(std::string memberships, read_file("/proc/self/cgroup"));
    Hierarchies hierarchies = parse(mountinfo, memberships);
    hierarchies.find_bases();
    if (hierarchies.all_.empty())
      return failed_with(ENOENT, Operation::kFindCgroups, "in /proc/self/mountinfo", Hint::kControllerAbsent);
    found = std::move(hierarchies);
  }
  return &*found;
}

Result<const Hierarchies*> Hierarchies::machine() { return found(); }

Result<bool> Hierarchies::use_delegated(std::string_view path) {
  FASTDOCK_TRY(Hierarchies * hierarchies, found());
  for (Hierarchy& hierarchy : hierarchies->all_) {
    if (hierarchy.version == Version::kV1) continue;
    std::string directory = directory_of(hierarchy, path);
    if (!hierarchy.base.empty() && directory.starts_with(hierarchy.base + "/")) return false;
    if (hierarchy.base.empty() && may_create_in(directory, Version::kV2)) hierarchy.base = directory;
    look_for_controllers(hierarchy);
    return true;
  }
  return false;
}

Version Hierarchies::version() const {
  bool v1 = std::any_of(all_.begin(), all_.end(), [](const Hierarchy& hierarchy) {
    return hierarchy.version == Version::kV1 && !hierarchy.controllers.empty();
  });
  return v1 ? Version::kV1 : Version::kV2;
}

const Hierarchy* Hierarchies::of(Controller controller) const {
  for (const Hierarchy& hierarchy : all_)
    if (hierarchy.controllers.contains(controller)) return &hierarchy;
  return nullptr;
}

const Hierarchy* Hierarchies::unified() const {
  for (const Hierarchy& hierarchy : all_)
    if (hierarchy.version == Version::kV2) return &hierarchy;
  return nullptr;
}

std::string directory_of(const Hierarchy& hierarchy, std::string_view path) {
  std::string directory = path.starts_with('/') ? hierarchy.mount_point : hierarchy.base;
  if (!path.starts_with('/')) directory += '/';
  return directory.append(path);
}

}  // namespace fastdock::cgroup
