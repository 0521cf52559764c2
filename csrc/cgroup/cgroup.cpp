#include "cgroup/cgroup.h"

#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/path.h"
#include "cgroup/apply.h"
#include "cgroup/exits.h"
#include "cgroup/files.h"
#include "cgroup/tree.h"

namespace fastdock::cgroup {
namespace {

// What a container is measured by and limited with at any time.
constexpr ControllerSet kAlways{Controller::kMemory, Controller::kPids, Controller::kCpu,
                                Controller::kCpuacct};
// v2: all that cost nothing until they are limited.
constexpr ControllerSet kOnV2{Controller::kMemory, Controller::kPids, Controller::kCpu,
                              Controller::kCpuset, Controller::kIo,   Controller::kHugetlb,
                              Controller::kRdma,   Controller::kMisc};

// Whether one of the controllers is in this hierarchy.
bool serves(const Hierarchies& hierarchies, const Hierarchy& hierarchy, ControllerSet controllers) {
  bool found = false;
  controllers.for_each([&](Controller each) { found = found || hierarchies.of(each) == &hierarchy; });
  return found;
}

// Whether the cgroup gets a directory in this hierarchy.
bool is_needed(const Hierarchies& hierarchies, const Hierarchy& hierarchy, ControllerSet limited,
               const CreateOptions& options) {
  if (options.all_controllers || serves(hierarchies, hierarchy, limited)) return true;
  if (hierarchy.version == Version::kV2)
    return hierarchies.version() == Version::kV2 || (options.unified && !options.ends_with_first);
  ControllerSet always = kAlways;
  if (!options.ends_with_first && (!options.unified || hierarchies.unified() == nullptr))
    always.add(Controller::kFreezer);
  return serves(hierarchies, hierarchy, always);
}

// What v2 is to offer to the cgroup: the limited controllers that are not v1's; on pure v2 also the rest.
ControllerSet wanted_on(const Hierarchies& hierarchies, const Hierarchy& hierarchy, ControllerSet limited) {
  ControllerSet wanted;
  ControllerSet candidates = hierarchies.version() == Version::kV2 ? (limited | kOnV2) : limited;
  (candidates & kOnV2 & hierarchy.controllers).for_each([&](Controller controller) {
    if (hierarchies.of(controller) == &hierarchy) wanted.add(controller);
  });
  return wanted;
}

// Fails before anything is made where a limit cannot be kept.
Result<void> require(const Hierarchies& hierarchies, ControllerSet limited) {
  Result<void> result;
  limited.for_each([&](Controller controller) {
    if (!result) return;
    const Hierarchy* hierarchy = hierarchies.of(controller);
    auto named = name(controller, hierarchies.version());
    if (hierarchy == nullptr)
      result = failed_with(ENOENT, Operation::kSetCgroupLimit, named, Hint::kControllerAbsent);
    else if (hierarchy->base.empty())
      result = failed_with(EACCES, Operation::kSetCgroupLimit, named, Hint::kNotDelegated);
  });
  return result;
}

bool exists(const std::string& directory) { return ::access(directory.c_str(), F_OK) == 0; }

}  // namespace

Result<Cgroup> Cgroup::create(const Hierarchies& hierarchies, std::string_view path, const Limits& limits,
                              CreateOptions options) {
  FASTDOCK_CHECK(check_path(path));
  FASTDOCK_CHECK(check(limits, hierarchies.version()));
  ControllerSet limited = controllers_of(limits);
  FASTDOCK_CHECK(require(hierarchies, limited));
  Cgroup cgroup(hierarchies, path);
  Made made;
  for (const Hierarchy& hierarchy : hierarchies.all()) {
    if (hierarchy.base.empty() || !is_needed(hierarchies, hierarchy, limited, options)) continue;
    FASTDOCK_CHECK(make_cgroup(hierarchy, path, made, options.occupied));
    FASTDOCK_CHECK(offer_controllers(hierarchy, path, wanted_on(hierarchies, hierarchy, limited), limited));
    cgroup.made_in_.push_back(&hierarchy);
  }
  FASTDOCK_CHECK(cgroup.apply(limits, nullptr));
  made.keep();
  return cgroup;
}

Result<Cgroup> Cgroup::open(const Hierarchies& hierarchies, std::string_view path) {
  FASTDOCK_CHECK(check_path(path));
  Cgroup cgroup(hierarchies, path);
  if (!cgroup.is_nowhere()) FASTDOCK_CHECK(cgroup.any_directory());
  return cgroup;
}

std::string Cgroup::directory_in(const Hierarchy* hierarchy) const {
  if (hierarchy == nullptr || hierarchy->base.empty()) return "";
  std::string directory = directory_of(*hierarchy, path_);
  return is_made_in(*hierarchy) || exists(directory) ? directory : "";
}

bool Cgroup::is_made_in(const Hierarchy& hierarchy) const {
  return std::ranges::find(made_in_, &hierarchy) != made_in_.end();
}

std::vector<std::pair<const Hierarchy*, std::string>> Cgroup::existing() const {
  std::vector<std::pair<const Hierarchy*, std::string>> found;
  for (const Hierarchy& hierarchy : hierarchies_->all()) {
    std::string directory = directory_in(&hierarchy);
    if (!directory.empty()) found.emplace_back(&hierarchy, std::move(directory));
  }
  return found;
}

std::vector<std::pair<std::string, std::string>> Cgroup::directories() const {
  std::vector<std::pair<std::string, std::string>> named;
  for (auto& [hierarchy, directory] : existing()) {
    if (hierarchy->version == Version::kV2) {
      named.emplace_back("", directory);
    } else if (hierarchy->controllers.empty()) {
      named.emplace_back("name=" + hierarchy->name, directory);
    } else {
      hierarchy->controllers.for_each(
          [&](Controller controller) { named.emplace_back(name(controller, Version::kV1), directory); });
    }
  }
  return named;
}

std::string Cgroup::directory_for(Controller controller) const {
  return directory_in(hierarchies_->of(controller));
}

std::string Cgroup::unified_directory() const { return directory_in(hierarchies_->unified()); }

Result<std::string> Cgroup::any_directory() const {
  for (const Hierarchy& hierarchy : hierarchies_->all()) {
    if (hierarchy.base.empty()) continue;
    std::string directory = directory_of(hierarchy, path_);
    if (exists(directory)) return directory;
  }
  return failed_with(ENOENT, Operation::kFindCgroups, path_);
}

bool Cgroup::is_nowhere() const {
  return std::all_of(hierarchies_->all().begin(), hierarchies_->all().end(),
                     [](const Hierarchy& hierarchy) { return hierarchy.base.empty(); });
}

Result<Join> Cgroup::join() const {
  Join join;
  for (const Hierarchy& hierarchy : hierarchies_->all()) {
    if (hierarchy.base.empty()) continue;
    if (!made_in_.empty() && !is_made_in(hierarchy)) continue;
    std::string directory = directory_of(hierarchy, path_);
    bool v1 = hierarchy.version == Version::kV1;
    auto file = open_file(directory + (v1 ? "/tasks" : "/cgroup.procs"), O_WRONLY);
    if (!file && file.error().number == ENOENT) continue;
    if (!file) return failed_with(file.error().number, Operation::kJoinCgroup, directory);
    if (v1) {
      // A thread that moves itself through `tasks` needs no cgroup_threadgroup_rwsem, whose first writer
      // after a pause waits for an RCU grace period (kernel/cgroup/cgroup.c, cgroup_attach_lock;
      // PERFORMANCE.md).
      join.tasks.push_back(std::move(*file));
    } else {
      join.procs = std::move(*file);
      FASTDOCK_TRY(join.directory, open_file(directory, O_RDONLY | O_DIRECTORY));
    }
  }
  if (join.tasks.empty() && !join.directory && !is_nowhere())
    return failed_with(ENOENT, Operation::kJoinCgroup, path_);
  return join;
}

Result<void> Cgroup::add(pid_t pid) const {
  // 0 would move the caller.
  if (pid <= 0) return failed_with(EINVAL, Operation::kJoinCgroup, std::to_string(pid));
  auto directories = existing();
  if (directories.empty() && !is_nowhere()) return failed_with(ENOENT, Operation::kJoinCgroup, path_);
  for (const auto& [hierarchy, directory] : directories) {
    auto written = write_file(directory + "/cgroup.procs", std::to_string(pid));
    if (!written)
      return failed_with(written.error().number, Operation::kJoinCgroup, directory,
                         written.error().number == ESRCH ? Hint::kProcessGone : Hint::kNone);
  }
  return {};
}

Result<void> Cgroup::apply(const Limits& limits, Journal* journal) {
  Result<void> result;
  controllers_of(limits).for_each([&](Controller controller) {
    if (!result) return;
    const Hierarchy* hierarchy = hierarchies_->of(controller);
    Files files(directory_of(*hierarchy, path_), journal);
    result = hierarchy->version == Version::kV1 ? apply_v1(controller, files, limits, warnings_)
                                                : apply_v2(controller, files, limits, warnings_);
  });
  if (!result || limits.unified.empty()) return result;
  Files files(directory_of(*hierarchies_->unified(), path_), journal);
  for (const auto& [file, value] : limits.unified) FASTDOCK_CHECK(files.set(file, value));
  return {};
}

Result<void> Cgroup::update(const Limits& limits) {
  FASTDOCK_CHECK(check(limits, hierarchies_->version()));
  FASTDOCK_CHECK(require(*hierarchies_, controllers_of(limits)));
  if (is_nowhere()) return {};
  FASTDOCK_CHECK(any_directory());
  warnings_.clear();
  made_in_.clear();
  FASTDOCK_CHECK(extend(controllers_of(limits)));
  Journal journal;
  auto result = apply(limits, &journal);
  if (!result) journal.take_back();
  return result;
}

Result<void> Cgroup::make_freezable() const {
  const Hierarchy* freezer = hierarchies_->of(Controller::kFreezer);
  if (is_nowhere() || !unified_directory().empty() || freezer == nullptr || freezer->base.empty()) return {};
  FASTDOCK_CHECK(any_directory());
  return extend({Controller::kFreezer});
}

// A running container that needs a hierarchy which it was not created in: make the directory there and move
// its processes.
Result<void> Cgroup::extend(ControllerSet limited) const {
  for (const Hierarchy& hierarchy : hierarchies_->all()) {
    if (!serves(*hierarchies_, hierarchy, limited)) continue;
    std::string directory = directory_of(hierarchy, path_);
    if (!exists(directory)) {
      Made made;
      FASTDOCK_CHECK(make_cgroup(hierarchy, path_, made));
      FASTDOCK_CHECK(move_processes_to(directory));
      made.keep();
    }
    FASTDOCK_CHECK(
        offer_controllers(hierarchy, path_, wanted_on(*hierarchies_, hierarchy, limited), limited));
  }
  return {};
}

// Until none is left behind: a process that forks while it is being moved leaves a child in the old place.
Result<void> Cgroup::move_processes_to(const std::string& directory) const {
  for (int round = 0; round < 1000; ++round) {
    FASTDOCK_TRY(std::vector<pid_t> there, processes_in(directory));
    FASTDOCK_TRY(std::vector<pid_t> all, processes());
    std::vector<pid_t> missing;
    std::set_difference(all.begin(), all.end(), there.begin(), there.end(), std::back_inserter(missing));
    if (missing.empty()) return {};
    for (pid_t pid : missing) {
      auto written = write_file(directory + "/cgroup.procs", std::to_string(pid));
      if (!written && written.error().number != ESRCH)
        return failed_with(written.error().number, Operation::kJoinCgroup, directory);
    }
  }
  return failed_with(EAGAIN, Operation::kJoinCgroup, directory);
}

Result<Fd> Cgroup::watch_oom() const {
  std::string directory = directory_for(Controller::kMemory);
  if (directory.empty())
    return failed_with(ENOENT, Operation::kReadCgroup, "memory", Hint::kControllerAbsent);
  Files files(directory);
  if (!files.has("cgroup.event_control")) {
    Fd watch(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
    if (!watch || ::inotify_add_watch(watch.get(), files.path("memory.events").c_str(), IN_MODIFY) < 0)
      return failed(Operation::kReadCgroup, files.path("memory.events"));
    return watch;
  }
  // Documentation/admin-guide/cgroup-v1/memory.rst, "OOM Control".
  Fd event(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!event) return failed(Operation::kReadCgroup, files.path("memory.oom_control"));
  FASTDOCK_TRY(Fd control, open_file(files.path("memory.oom_control"), O_RDONLY));
  FASTDOCK_CHECK(write_file(files.path("cgroup.event_control"),
                            std::to_string(event.get()) + " " + std::to_string(control.get())));
  return event;
}

}  // namespace fastdock::cgroup
