#include "monitor/health.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>

#include "launch/session.h"
#include "monitor/exec.h"
#include "monitor/json.h"

namespace fastdock::monitor {
namespace {

// moby, daemon/health.go: maxOutputLen, maxLogEntries
constexpr std::size_t kMaximumOutput = 4096;
constexpr std::size_t kMaximumResults = 5;

}  // namespace

void HealthChecker::begin(pid_t target) {
  target_ = target;
  begun_ = Clock::now();
  state_ = HealthState{};
  active_ = true;
  schedule();
}

void HealthChecker::pause() {
  active_ = false;
  if (!probe_) return;
  probe_ended(killed());
  output_.reset();
}

void HealthChecker::resume() {
  active_ = true;
  schedule();
}

void HealthChecker::schedule() {
  bool early = starting() && state_.health == Health::kStarting && options_.start_interval > 0;
  next_ = Clock::now() + std::chrono::milliseconds(early ? options_.start_interval : options_.interval);
}

std::optional<Clock::time_point> HealthChecker::deadline() const {
  if (!active_) return std::nullopt;
  return probe_ ? limit_ : next_;
}

bool HealthChecker::advance(const cgroup::Cgroup& group) {
  if (!active_) return false;
  if (!probe_) {
    if (Clock::now() < next_) return false;
    start(group);
    return !probe_;
  }
  read_output();
  auto status = launch::wait(*probe_, 0);
  if (status && *status) {
    read_output();
    probe_ended((*status)->code);
    finish((*status)->code);
    return true;
  }
  if (status && Clock::now() < limit_) return false;
  probe_ended(killed());
  result_.output = "Health check exceeded timeout (" + std::to_string(options_.timeout / 1000) + "s)";
  finish(-1);
  return true;
}

void HealthChecker::start(const cgroup::Cgroup& group) {
  result_ = ProbeResult{};
  result_.start = now();
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return finish(-1);
  output_ = Fd(ends[0]);
  Fd input(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  Fd theirs(ends[1]);
  (void)::fcntl(output_.get(), F_SETFL, O_NONBLOCK);
  LaunchPlan plan = options_.probe;
  plan.stdio = {input.get(), theirs.get(), theirs.get()};
  plan.parent_death_signal = SIGKILL;
  limit_ = Clock::now() + std::chrono::milliseconds(options_.timeout);
  auto process = start_in(group, target_, std::move(plan));
  if (process) {
    probe_ = std::move(*process);
    return told_of_start();
  }
  result_.output = describe(process.error());
  finish(-1);
}

// moby, daemon/health.go: a probe is an exec, with an exec's events.
void HealthChecker::told_of_start() {
  probe_id_ = launch::random_hex(32);
  std::string command;
  for (const std::string& word : options_.probe.argv) command += ' ' + word;
  for (const char* action : {"exec_create:", "exec_start:"}) tell_(action + command, {{"execID", probe_id_}});
}

int HealthChecker::killed() {
  (void)launch::send_signal(*probe_, SIGKILL);
  auto status = launch::wait(*probe_, -1);
  return status && *status ? (*status)->code : 128 + SIGKILL;
}

void HealthChecker::probe_ended(int exit_code) {
  probe_.reset();
  tell_("exec_die", {{"execID", probe_id_}, {"exitCode", std::to_string(exit_code)}});
}

void HealthChecker::read_output() {
  char buffer[4096];
  while (output_) {
    ssize_t count = ::read(output_.get(), buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) return output_.reset();
    auto room = kMaximumOutput - std::min(kMaximumOutput, result_.output.size());
    result_.output.append(buffer, std::min(room, static_cast<std::size_t>(count)));
  }
}

void HealthChecker::finish(int exit_code) {
  output_.reset();
  result_.end = now();
  result_.exit_code = exit_code;
  state_.log.push_back(std::move(result_));
  if (state_.log.size() > kMaximumResults) state_.log.pop_front();
  if (exit_code == 0) {
    state_.health = Health::kHealthy;
    state_.failing_streak = 0;
  } else if (!(starting() && state_.health == Health::kStarting)) {
    ++state_.failing_streak;
    if (state_.failing_streak >= static_cast<int>(options_.retries)) state_.health = Health::kUnhealthy;
  }
  schedule();
}

}  // namespace fastdock::monitor
