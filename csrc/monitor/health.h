// Health checks, with Docker's meaning: a probe runs in the container every so often; exit status 0 is
// healthy, and `retries` failures in a row are unhealthy.  Failures in the start period do not count.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cgroup/cgroup.h"
#include "launch/launch.h"
#include "monitor/request.h"
#include "monitor/state.h"

namespace fastdock::monitor {

using Clock = std::chrono::steady_clock;

class HealthChecker {
 public:
  // Told of each probe what an exec's events say: the action, and what the event has beside the container's
  // own attributes.
  using Attributes = std::vector<std::pair<std::string, std::string>>;
  using Tell = std::function<void(const std::string& action, Attributes more)>;

  HealthChecker(const HealthCheck& options, Tell tell) : options_(options), tell_(std::move(tell)) {}

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
  void told_of_start();
  int killed();  // kills the probe: its exit code
  void probe_ended(int exit_code);
  void schedule();
  [[nodiscard]] bool starting() const {
    return Clock::now() < begun_ + std::chrono::milliseconds(options_.start_period);
  }

  const HealthCheck& options_;
  Tell tell_;
  HealthState state_;
  pid_t target_ = -1;
  Clock::time_point begun_, next_, limit_;
  std::optional<launch::Process> probe_;
  std::string probe_id_;  // in its events
  Fd output_;
  ProbeResult result_;
  bool active_ = false;
};

}  // namespace fastdock::monitor
