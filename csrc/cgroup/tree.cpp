#include "cgroup/tree.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/directory_stream.h"
#include "base/path.h"
#include "cgroup/exits.h"
#include "cgroup/files.h"

namespace fastdock::cgroup {
namespace {

std::string parent_of(const std::string& directory) { return directory.substr(0, directory.rfind('/')); }

// mkdir -p below `top`.  Tried again on ENOENT: another process whose creation failed may take away an
// empty parent between our two steps.
Result<void> make_below(const std::string& top, const std::string& directory, Made& made) {
  for (int attempt = 0; attempt < 16; ++attempt) {
    if (::mkdir(directory.c_str(), 0755) == 0) {
      made.add(directory);
      return {};
    }
    if (errno != ENOENT || directory.size() <= top.size()) break;
    if (auto parent = make_below(top, parent_of(directory), made); !parent && parent.error().number != EEXIST)
      return parent;
    errno = ENOENT;
  }
  Hint hint = errno == EACCES || errno == EPERM || errno == EROFS ? Hint::kNeedsRoot : Hint::kNone;
  return failed(Operation::kCreateCgroup, directory, hint);
}

bool is_blank(const std::string& text) { return text.find_first_not_of(" \n") == std::string::npos; }

// cgroups(7), cpuset(7): a v1 cpuset starts empty, and no process can join it before both are set.
// `is_new`: without a look at what it has.
Result<void> inherit_cpuset(const std::string& top, const std::string& directory, bool is_new) {
  if (directory.size() <= top.size()) return {};
  Files child(directory);
  for (const char* file : {"cpuset.cpus", "cpuset.mems"}) {
    if (!is_new) {
      FASTDOCK_TRY(std::string own, child.read(file));
      if (!is_blank(own)) continue;
    }
    FASTDOCK_CHECK(inherit_cpuset(top, parent_of(directory), false));
    FASTDOCK_TRY(std::string inherited, Files(parent_of(directory)).read(file));
    FASTDOCK_CHECK(child.set(file, inherited));
  }
  return {};
}

std::string enabling(ControllerSet controllers) {
  std::string text;
  controllers.for_each([&](Controller controller) {
    if (!text.empty()) text += ' ';
    text.append("+").append(name(controller, Version::kV2));
  });
  return text;
}

Result<ControllerSet> read_controllers(const std::string& directory, const char* file) {
  FASTDOCK_TRY(std::string text, Files(directory).read(file));
  return parse_controllers(text, ' ');
}

Result<bool> holds_processes(const Files& files) {
  if (!files.has("cgroup.type")) return false;  // the machine's root, to which the rule does not apply
  FASTDOCK_TRY(std::string processes, files.read("cgroup.procs"));
  return !processes.empty();
}

// Offers the controllers to the children of `directory`.
Result<void> enable_in(const std::string& directory, ControllerSet wanted, ControllerSet required) {
  FASTDOCK_TRY(ControllerSet enabled, read_controllers(directory, "cgroup.subtree_control"));
  ControllerSet missing = wanted - enabled;
  if (missing.empty()) return {};
  std::string file = directory + "/cgroup.subtree_control";
  auto refused = [&](int number, ControllerSet controllers) -> Result<void> {
    if ((controllers & required).empty()) return {};
    Hint hint = number == EBUSY    ? Hint::kCgroupHoldsProcesses
                : number == ENOENT ? Hint::kControllerAbsent
                                   : Hint::kNeedsRoot;
    return failed_with(number, Operation::kCreateCgroup, file + " " + enabling(controllers & required), hint);
  };
  // cgroup-v2.rst, "No Internal Process Constraint".  The kernel would still take the controllers that work
  // by thread, but that turns the cgroup into a threaded domain, whose children no process can join.
  FASTDOCK_TRY(bool occupied, holds_processes(Files(directory)));
  if (occupied) return refused(EBUSY, missing);
  if (write_file(file, enabling(missing))) return {};
  // One that cannot be enabled must not keep the others away.
  Result<void> result;
  missing.for_each([&](Controller controller) {
    auto written = write_file(file, enabling({controller}));
    if (!written && result) result = refused(written.error().number, {controller});
  });
  return result;
}

// Top down: a child can only enable what its parent offers it.
Result<void> enable_down_to(const std::string& top, const std::string& directory, ControllerSet wanted,
                            ControllerSet required) {
  if (directory.size() < top.size()) return {};
  FASTDOCK_CHECK(enable_down_to(top, parent_of(directory), wanted, required));
  return enable_in(directory, wanted, required);
}

// A file that every non-root v2 cgroup has once the controller is there, or "" where it depends on the
// kernel's options.
std::string_view first_file_of(Controller controller) {
  switch (controller) {
    case Controller::kCpu:
      return "cpu.weight";
    case Controller::kCpuset:
      return "cpuset.cpus";
    case Controller::kMemory:
      return "memory.max";
    case Controller::kPids:
      return "pids.max";
    default:
      return "";
  }
}

// The kernel names a controller in cgroup.controllers before it has made the files
// (cgroup_subtree_control_write sets subtree_control, then calls cgroup_apply_control_enable), so another
// process that offers it at the same time may be ahead of them.  Offering it once more waits: that write
// takes cgroup_mutex, which the first one holds until the files exist.
void wait_for_files(const std::string& directory, ControllerSet controllers) {
  controllers.for_each([&](Controller controller) {
    std::string_view file = first_file_of(controller);
    if (file.empty() || Files(directory).has(file)) return;
    (void)write_file(parent_of(directory) + "/cgroup.subtree_control", enabling({controller}));
  });
}

}  // namespace

Made::~Made() {
  for (auto directory = directories_.rbegin(); directory != directories_.rend(); ++directory)
    ::rmdir(directory->c_str());
}

Result<void> make_cgroup(const Hierarchy& hierarchy, std::string_view path, Made& made, bool occupied) {
  const std::string& top = path.starts_with('/') ? hierarchy.mount_point : hierarchy.base;
  std::string directory = directory_of(hierarchy, path);
  auto created = make_below(top, directory, made);
  if (!created) {
    if (created.error().number != EEXIST) return created;
    FASTDOCK_TRY(std::string processes, Files(directory).read("cgroup.procs"));
    if (!processes.empty() && !occupied) return created;
  }
  if (!hierarchy.controllers.contains(Controller::kCpuset) || hierarchy.version == Version::kV2) return {};
  return inherit_cpuset(hierarchy.mount_point, directory, created.has_value());
}

Result<void> offer_controllers(const Hierarchy& hierarchy, std::string_view path, ControllerSet wanted,
                               ControllerSet required) {
  if (hierarchy.version == Version::kV1 || wanted.empty()) return {};
  const std::string& top = path.starts_with('/') ? hierarchy.mount_point : hierarchy.base;
  std::string directory = directory_of(hierarchy, path);
  FASTDOCK_TRY(ControllerSet offered, read_controllers(directory, "cgroup.controllers"));
  if (!(wanted - offered).empty())
    FASTDOCK_CHECK(enable_down_to(top, parent_of(directory), wanted - offered, required));
  wait_for_files(directory, required);
  return {};
}

Result<void> remove_cgroup(const std::string& directory, std::chrono::steady_clock::time_point deadline) {
  while (::rmdir(directory.c_str()) != 0) {
    int number = errno;
    if (number == ENOENT) return {};
    if (number != EBUSY) return failed_with(number, Operation::kRemoveCgroup, directory);
    auto children = children_of(directory);
    if (!children) {
      if (children.error().number == ENOENT) return {};
      return std::unexpected(children.error());
    }
    for (const std::string& child : *children)
      FASTDOCK_CHECK(remove_cgroup(directory + "/" + child, deadline));
    if (!children->empty()) continue;
    if (std::chrono::steady_clock::now() >= deadline)
      return failed_with(EBUSY, Operation::kRemoveCgroup, directory, Hint::kCgroupNotEmpty);
    FASTDOCK_CHECK(wait_for_exits(directory, deadline));
  }
  return {};
}

void remove_if_empty(const Hierarchies& hierarchies, std::string_view path) {
  for (const Hierarchy& hierarchy : hierarchies.all())
    if (!hierarchy.base.empty()) (void)::rmdir(directory_of(hierarchy, path).c_str());
}

Result<void> check_path(std::string_view path) {
  auto refused = [&] { return failed_with(EINVAL, Operation::kCreateCgroup, path, Hint::kEscapesRoot); };
  if (path.empty() || path.size() > 1024 || path.find_first_not_of('/') == std::string_view::npos)
    return refused();
  if (std::any_of(path.begin(), path.end(), [](char c) { return c >= 0 && c < ' '; })) return refused();
  std::string_view rest = path.starts_with('/') ? path.substr(1) : path;
  while (true) {
    std::size_t end = rest.find('/');
    std::string_view part = rest.substr(0, end);
    if (part.empty() || part == "." || part == "..") return refused();
    if (end == std::string_view::npos) return {};
    rest = rest.substr(end + 1);
  }
}

Result<std::vector<std::string>> children_of(const std::string& directory) {
  DirectoryStream stream(::opendir(directory.c_str()));
  if (!stream) return failed(Operation::kListDirectory, directory);
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(stream.get())) {  // kernfs always knows the type
    std::string_view entry_name = entry->d_name;
    if (entry->d_type == DT_DIR && entry_name != "." && entry_name != "..") names.emplace_back(entry_name);
  }
  return names;
}

}  // namespace fastdock::cgroup
