// A container from its start to its end: directories, ids, cgroup and process, made together and removed
// together.  What is on disk is described in ARCHITECTURE.md, "What is on disk".
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/fd.h"
#include "cgroup/cgroup.h"
#include "launch/ids.h"
#include "launch/launch.h"
#include "launch/plan.h"

namespace fastdock::launch {

struct ContainerOptions {
  std::string id;               // names the directories and the cgroup
  std::string state_directory;  // /var/lib/fastdock: containers/ID with upper/ and work/
  std::string run_directory;    // /run/fastdock: containers/ID, on tmpfs
  std::string cgroup_parent = "fastdock";
  cgroup::Limits limits;
  bool own_ids = true;  // a range of its own; the plan then has a new user namespace, and its maps are filled in
};

class Container {
 public:
  // Starts `plan` (a copy: the container's own directories, ids and cgroup are filled in).  On failure
  // nothing is left.
  static Result<std::unique_ptr<Container>> start(LaunchPlan plan, const ContainerOptions& options,
                                                  const Observer& observer = {});
  // Kills what still runs, and removes everything.
  ~Container();
  Container(const Container&) = delete;
  Container& operator=(const Container&) = delete;

  [[nodiscard]] const Process& process() const { return process_; }
  Process& process() { return process_; }
  [[nodiscard]] const std::vector<std::string>& warnings() const { return warnings_; }

  // Nothing when the time (milliseconds, -1: for ever) is up.  May be called again, also after the end.
  Result<std::optional<ExitStatus>> wait(int timeout_ms);
  Result<void> kill(int signal);
  [[nodiscard]] const cgroup::Cgroup* cgroup() const { return cgroup_ ? &*cgroup_ : nullptr; }

  // After the end: what it used.  Then removes everything; the destructor does the same without the answer.
  Result<cgroup::Usage> finish();

 private:
  explicit Container(const ContainerOptions& options);
  Result<void> make_run_directory();
  Result<void> make_state_directory(LaunchPlan& plan);
  Result<void> make_cgroup(LaunchPlan& plan);
  Result<void> remove();

  std::string id_, state_directory_, run_directory_, cgroup_path_;
  cgroup::Limits limits_;
  bool own_ids_;
  Fd run_lock_;  // flock on containers/ID of the run directory: while it is held, the owner lives
  std::unique_ptr<IdRange> ids_;
  std::optional<cgroup::Cgroup> cgroup_;
  cgroup::Join join_;
  Process process_;
  std::optional<ExitStatus> status_;
  std::vector<std::string> warnings_;
  bool has_state_ = false;
};

// Removes what owners that died left: for each containers/ID of the run directory whose lock is free, its
// processes (by cgroup), cgroup and directories.  Returns how many.
Result<int> remove_abandoned(const std::string& state_directory, const std::string& run_directory,
                             const std::string& cgroup_parent);

}  // namespace fastdock::launch
