// One container's cgroup in every hierarchy that it needs: make, limit, enter, freeze, kill, measure, remove.
//
// A Cgroup is a name, not a resource: it holds no descriptor, any process can open the same one again by
// its path, and it stays until remove().  What exists is looked up in the file system at each call.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "cgroup/details.h"
#include "cgroup/hierarchies.h"
#include "cgroup/limits.h"
#include "cgroup/statistics.h"

namespace fastdock::cgroup {

class Journal;

struct CreateOptions {
  // Every hierarchy of the machine (an OCI runtime: callers look for their own names in /proc/PID/cgroup),
  // instead of those that are needed: memory, pids, cpu, cpuacct and those that are limited.
  bool all_controllers = false;
  // On a hybrid machine use the v2 hierarchy too: it kills a whole cgroup at once and tells when it is
  // empty, so the v1 freezer is not needed.
  bool unified = true;
  // Its processes end with the first one, which is process 1 of a PID namespace of their own: then it needs
  // neither the freezer nor, on a hybrid machine, the v2 hierarchy to be killed as a whole.
  bool ends_with_first = false;
  // systemd has made some of it, and a process holds it: then that is no error.
  bool occupied = false;
};

// What a process needs to enter, held open so that it takes one system call each.
struct Join {
  Fd directory;           // v2: for clone3's CLONE_INTO_CGROUP
  Fd procs;               // v2: cgroup.procs, where "0" is written if the clone did not do it
  std::vector<Fd> tasks;  // v1: the child itself writes "0" to each
};

class Cgroup {
 public:
  // Makes the cgroup and sets its limits; on failure removes what it made.
  // ENOENT kControllerAbsent: a limit needs a controller that this machine has not.  EEXIST: it is there
  // and holds processes.  EACCES kNotDelegated: a limit is asked where we may create no cgroup; without
  // limits that gives a Cgroup that is nowhere (empty directories()), where joining does nothing.
  static Result<Cgroup> create(const Hierarchies& hierarchies, std::string_view path, const Limits& limits,
                               CreateOptions options = {});
  // One that exists, or is nowhere.  ENOENT: in no hierarchy.
  static Result<Cgroup> open(const Hierarchies& hierarchies, std::string_view path);

  Cgroup(Cgroup&&) = default;
  Cgroup& operator=(Cgroup&&) = default;
  Cgroup(const Cgroup&) = delete;
  Cgroup& operator=(const Cgroup&) = delete;
  ~Cgroup() = default;

  [[nodiscard]] const std::string& path() const { return path_; }
  // The directory in each hierarchy that it is in: ("memory", "/sys/fs/cgroup/memory/fastdock/…"),
  // ("", …) for v2.
  [[nodiscard]] std::vector<std::pair<std::string, std::string>> directories() const;
  // The one that has this controller, and v2's; "" where there is none.
  [[nodiscard]] std::string directory_for(Controller controller) const;
  [[nodiscard]] std::string unified_directory() const;
  // Made where we may create no cgroup: joining does nothing, and nothing is counted.
  [[nodiscard]] bool is_nowhere() const;
  // What create() and update() could not do and did not fail for, as Docker decides it.
  [[nodiscard]] const std::vector<std::string>& warnings() const { return warnings_; }

  [[nodiscard]] Result<Join> join() const;
  // Moves a process (with all its threads) in.  Slow after a pause (13 ms: PERFORMANCE.md).
  [[nodiscard]] Result<void> add(pid_t pid) const;

  // Changes the limits of a running container; all of them or, on failure, none (limits per device
  // excepted).  EBUSY kLimitBelowUse: more memory than that is in use and cannot be reclaimed.
  Result<void> update(const Limits& limits);

  // Makes what freeze() needs where create() made none (CreateOptions::ends_with_first on v1).
  [[nodiscard]] Result<void> make_freezable() const;
  // Returns when all processes are frozen or thawed.
  [[nodiscard]] Result<void> freeze(bool frozen) const;
  [[nodiscard]] Result<bool> is_frozen() const;
  // Kills until no process is left, also those that fork meanwhile, and in nested cgroups.
  [[nodiscard]] Result<void> kill_all(std::chrono::milliseconds patience = std::chrono::seconds(10)) const;
  // Those in nested cgroups too; none where the cgroup is gone.  Processes that our PID namespace cannot see
  // are left out.
  [[nodiscard]] Result<std::vector<pid_t>> processes() const;

  [[nodiscard]] Result<Usage> usage() const;
  [[nodiscard]] Result<Statistics> statistics() const;
  [[nodiscard]] Result<Details> details() const;
  // Readable (non-blocking) when the cgroup runs out of memory; then read it and look at usage().oom_kills.
  // v1: an eventfd, told just before the kernel kills; v2: inotify on memory.events.
  [[nodiscard]] Result<Fd> watch_oom() const;

  // Removes the directories, nested ones first.  Processes that are dying are waited for; EBUSY: after
  // `patience` some are still there.  A cgroup that is gone already is success.
  [[nodiscard]] Result<void> remove(std::chrono::milliseconds patience = std::chrono::seconds(2)) const;

 private:
  Cgroup(const Hierarchies& hierarchies, std::string_view path) : hierarchies_(&hierarchies), path_(path) {}

  // One directory that all processes are in.
  [[nodiscard]] Result<std::string> any_directory() const;
  // What create() has made is there, without a look.
  [[nodiscard]] bool is_made_in(const Hierarchy& hierarchy) const;
  [[nodiscard]] std::string directory_in(const Hierarchy* hierarchy) const;
  // The directories that exist, v1 first.
  [[nodiscard]] std::vector<std::pair<const Hierarchy*, std::string>> existing() const;
  Result<void> apply(const Limits& limits, Journal* journal);
  Result<void> extend(ControllerSet controllers) const;
  [[nodiscard]] Result<void> move_processes_to(const std::string& directory) const;
  [[nodiscard]] Result<void> freeze_v1(const std::string& directory, bool frozen) const;

  const Hierarchies* hierarchies_;
  std::string path_;
  std::vector<const Hierarchy*> made_in_;  // by create(); what open() found is not known
  std::vector<std::string> warnings_;
};

}  // namespace fastdock::cgroup
