// What of a container can be made while its cgroups are.
#pragma once

#include <sched.h>

#include <functional>
#include <memory>
#include <semaphore>
#include <thread>

#include "launch/flatten.h"
#include "launch/plan.h"

namespace fastdock::oci {

// A thread beside the one that makes cgroups and state, which takes a third of a start.  It makes the
// network namespace: that takes the kernel 0.6 ms, half of what clone3(2) does for a container (setup_net()
// registers every protocol's sysctls), and unshare(2) makes one for a single thread, whose children are then
// born in it.  Then it prepares the container's mounts, and clones.
class Ahead {
 public:
  // Nothing where the clone itself would make a namespace that is not the same (of another user namespace
  // than the calling process's, or after joining others), or where there is no room for a thread.
  static std::unique_ptr<Ahead> start(const launch::LaunchPlan& plan);
  ~Ahead();
  Ahead(const Ahead&) = delete;
  Ahead& operator=(const Ahead&) = delete;

  // Goes on with Flattened::begin() of `plan`, and leaves the namespace out that is there already.  The plan
  // is then this thread's, but for what begin() does not look at.  Once.
  void begin(launch::LaunchPlan& plan);
  // Runs `task`, the clone, on this thread, after that, and `meanwhile` on the caller's.  Once.
  void run(const std::function<void()>& task, const std::function<void()>& meanwhile);
  // What begin() has made, for the task.
  Result<std::unique_ptr<launch::Flattened>> begun() { return std::move(flat_); }

 private:
  Ahead();
  void work();

  cpu_set_t allowed_{};  // the processors of this process; none: not known
  launch::LaunchPlan* plan_ = nullptr;
  Result<std::unique_ptr<launch::Flattened>> flat_;
  const std::function<void()>* task_ = nullptr;
  // The destructor, too, gives a word.
  std::counting_semaphore<2> has_plan_{0}, has_task_{0};
  std::binary_semaphore has_run_{0};
  std::thread thread_;
};

}  // namespace fastdock::oci
