// A further process in a running container.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "base/error.h"
#include "cgroup/cgroup.h"
#include "launch/launch.h"
#include "launch/plan.h"
#include "monitor/places.h"

namespace fastdock::monitor {

using launch::LaunchPlan;

// A plan for further processes in a container started by `plan`: the same user, environment, capabilities,
// filter and limits, in its namespaces (kJoin, without paths).
LaunchPlan exec_plan(const LaunchPlan& plan);

struct ExecOptions {
  // The container's process, as state.json has it.  It is checked again when the namespaces have been joined:
  // by then its number cannot have passed to another process unnoticed.
  pid_t target = -1;
  bool own_group = false;  // a cgroup of its own below the container's, so that all it starts can be killed
};

class Exec {
 public:
  // `plan`: namespaces with mode kJoin and no path are those of the container's process.
  // ESRCH kProcessGone: the container has ended.
  static Result<Exec> start(const Places& places, const std::string& id, LaunchPlan plan, ExecOptions options);
  Exec(Exec&&) = default;
  Exec& operator=(Exec&&) = default;

  launch::Process& process() { return process_; }
  // The process; with a cgroup of its own, everything that it has started too.
  [[nodiscard]] Result<void> kill_all() const;
  // After the end.
  [[nodiscard]] Result<void> remove_group() const;

 private:
  Exec() = default;
  launch::Process process_;
  std::optional<cgroup::Cgroup> group_;
};

// The same for the monitor, whose child the container is: it cannot vanish unnoticed.
Result<launch::Process> start_in(const cgroup::Cgroup& group, pid_t target, LaunchPlan plan,
                                 const launch::Observer& observer = {});

}  // namespace fastdock::monitor
