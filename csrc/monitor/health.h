// Health checks, with Docker's meaning: a probe runs in the container every so often; exit status 0 is healthy,
// and `retries` failures in a row are unhealthy.  Failures in the start period do not count.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "cgroup/cgroup.h"
#include "launch/launch.h"
#include "monitor/request.h"
#include "monitor/state.h"

namespace fastdock::monitor {

using Clock = std::chrono::steady_clock;

class HealthChecker {
 public:
  explicit HealthChecker(const HealthCheck& options) : options_(options) {}

  // The container's process runs; the first probe comes after the interval.
  void begin(pid_t target);
  // It has ended, or is frozen: no probe now.
  void pause();
  void resume();

  // To be polled: the probe's end and its output; -1: none.
  [[nodiscard]] int process() const { return probe_ ? probe_->pidfd.get() : -1; }
  [[nodiscard]] int output() const { return output_.get(); }
  [[nodiscard]] std::optional<Clock::time_point> deadline() const;

  // Does what is due.  True: the state has changed.
  bool advance(const cgroup::Cgroup& group);

  [[nodiscard]] const HealthState& state() const { return state_; }

 private:
  void start(const cgroup::Cgroup& group);
  void read_output();
  void finish(int exit_code);
  void schedule();
  [[nodiscard]] bool starting() const { return Clock::now() < begun_ + std::chrono::milliseconds(options_.start_period); }

  const HealthCheck& options_;
  HealthState state_;
  pid_t target_ = -1;
  Clock::time_point begun_, next_, limit_;
  std::optional<launch::Process> probe_;
  Fd output_;
  ProbeResult result_;
  bool active_ = false;
};

}  // namespace fastdock::monitor
