// A container's network namespace, made while its cgroups are.
#pragma once

#include <functional>
#include <future>
#include <thread>

#include "launch/plan.h"

namespace fastdock::oci {

// A new network namespace takes the kernel 0.6 ms, half of what clone3(2) does for a container and as long as
// the cgroups of all v1 controllers: setup_net() registers every protocol's sysctls.  unshare(2) makes one
// for a single thread, whose children are then born in it; so a thread of its own does, beside the one that
// makes the rest.
class NetworkAhead {
 public:
  // Whether the clone itself would make a namespace that is the same: one of the calling process's user
  // namespace, which is as it is for the whole launch.
  static bool suits(const launch::LaunchPlan& plan);

  NetworkAhead();
  ~NetworkAhead();
  NetworkAhead(const NetworkAhead&) = delete;
  NetworkAhead& operator=(const NetworkAhead&) = delete;

  // Waits until it is there, with its loopback device up.  False: it could not be made; the clone says why.
  bool is_made() { return made_.get(); }

  // Runs `task`, the clone, on the thread that is in it.  Once.
  void run(const std::function<void()>& task);

 private:
  void work();

  std::promise<bool> making_;
  std::future<bool> made_ = making_.get_future();
  std::promise<std::packaged_task<void()>> giving_;
  bool given_ = false;
  std::thread thread_;
};

}  // namespace fastdock::oci
