#include "monitor/monitor.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "monitor/places.h"

namespace fastdock::monitor {
namespace {

constexpr std::size_t kReadSize = 32768;
constexpr int kDrainReads = 4096;  // 128 MiB: more than any pipe or terminal holds

void add(std::vector<pollfd>& polls, int fd, short events) {
  if (fd >= 0) polls.push_back({fd, events, 0});
}

}  // namespace

Monitor::Monitor(Request request)
    : request_(std::move(request)),
      state_directory_(state_directory(request_.places, request_.id)),
      run_directory_(run_directory(request_.places, request_.id)),
      log_(request_.log),
      clients_(*this) {
  if (request_.health)
    health_.emplace(*request_.health, [this](const std::string& action, HealthChecker::Attributes more) {
      event(action, std::move(more));
    });
}

void Monitor::serve() {
  settle();
  while (!done_) poll_once();
}

void Monitor::poll_once() {
  std::vector<pollfd> polls;
  clients_.add_to(polls, pending_input_.size() > kReadSize);
  add(polls, signals_.get(), POLLIN);
  if (process_) add(polls, process_->pidfd.get(), POLLIN);
  if (!clients_.blocked()) {
    add(polls, output_.get(), POLLIN);
    add(polls, errors_.get(), POLLIN);
  }
  if (!pending_input_.empty())
    add(polls, output_ && request_.plan.terminal ? output_.get() : input_.get(), POLLOUT);
  add(polls, memory_events_.get(), POLLIN);
  if (health_) add(polls, health_->process(), POLLIN), add(polls, health_->output(), POLLIN);
  for (const auto& [pid, other] : others_) add(polls, other.process.pidfd.get(), POLLIN);

  if (::poll(polls.data(), polls.size(), timeout()) < 0 && errno != EINTR) return;
  clients_.handle(polls.data());
  // What else is ready is tried, not looked up: every descriptor below is non-blocking.
  handle_signal();
  if (!clients_.blocked()) {
    read_stream(output_, Stream::kOutput);
    if (!clients_.blocked()) read_stream(errors_, Stream::kErrors);
  }
  write_input();
  check_memory();
  reap_others();
  if (health_ && group_ && process_ && health_->advance(*group_)) {
    if (!state_.health || state_.health->health != health_->state().health)
      event(std::string("health_status: ") + text(health_->state().health));
    state_.health = health_->state();
    publish();
  }
  run_timers();
  pollfd ended{process_ ? process_->pidfd.get() : -1, POLLIN, 0};
  if (process_ && ::poll(&ended, 1, 0) == 1) program_ended();
}

int Monitor::timeout() const {
  Time first;
  for (const Time& time :
       {kill_at_, restart_at_, clients_.patience_ends(), health_ ? health_->deadline() : Time{}})
    if (time && (!first || *time < *first)) first = time;
  if (!first) return -1;
  auto left = std::chrono::duration_cast<std::chrono::milliseconds>(*first - Clock::now()).count() + 1;
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 3'600'000));
}

void Monitor::run_timers() {
  auto now = Clock::now();
  clients_.give_up_on_stalled();
  if (kill_at_ && *kill_at_ <= now) {
    kill_at_.reset();
    if (group_ && state_.status == Status::kPaused) (void)group_->freeze(false);
    if (process_) (void)launch::send_signal(*process_, SIGKILL);
  }
  if (restart_at_ && *restart_at_ <= now) state_.stopped_by_user || goes_down_ ? abandon() : restart();
}

void Monitor::handle_signal() {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
    // The machine is going down, or somebody means the container: it gets its time to end well.
    if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT) (void)stop(nullptr, -1, {});
    if (info.ssi_signo == SIGCHLD && log_.compressor() > 0 &&
        ::waitpid(log_.compressor(), nullptr, WNOHANG) != 0)
      log_.compressor_ended();
  }
}

void Monitor::read_stream(Fd& from, Stream stream) {
  static char buffer[kReadSize];
  if (!from) return;
  ssize_t count = ::read(from.get(), buffer, sizeof buffer);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) return from.reset();
  std::string_view bytes(buffer, static_cast<std::size_t>(count));
  log_.write(stream, bytes);
  clients_.output(stream, bytes);
}

// What the program wrote before it ended.  Not more than that: a descriptor may have got out of the
// container.
void Monitor::drain_streams() {
  clients_.wait_for_slow();
  for (Fd* from : {&output_, &errors_}) {
    for (int i = 0; i < kDrainReads && *from; ++i) {
      int ready = 0;
      if (::ioctl(from->get(), FIONREAD, &ready) != 0 || ready <= 0) break;
      read_stream(*from, from == &output_ ? Stream::kOutput : Stream::kErrors);
      clients_.wait_for_slow();
    }
    from->reset();
  }
}

void Monitor::write_input() {
  int to = request_.plan.terminal ? output_.get() : input_.get();
  if (!pending_input_.empty() && to >= 0) {
    ssize_t count = ::write(to, pending_input_.data(), pending_input_.size());
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count < 0)
      pending_input_.clear();  // nobody reads it any more
    else
      pending_input_.erase(0, static_cast<std::size_t>(count));
  }
  if (pending_input_.empty()) {
    if (pending_input_.capacity() > kReadSize) pending_input_ = std::string();
    if (input_ends_) input_.reset();
  }
}

void Monitor::check_memory() {
  char drained[4096];
  if (!memory_events_ || ::read(memory_events_.get(), drained, sizeof drained) <= 0) return;
  auto usage = group_->usage();
  if (!usage || usage->oom_kills <= memory_kills_) return;
  memory_kills_ = usage->oom_kills;
  event("oom");
}

void Monitor::reap_others() {
  for (auto other = others_.begin(); other != others_.end();) {
    auto status = launch::wait(other->second.process, 0);
    if (status && !*status) {
      ++other;
      continue;
    }
    event("exec_die",
          {{"execID", other->second.id}, {"exitCode", std::to_string(status ? (*status)->code : 255)}});
    other = others_.erase(other);
  }
}

void Monitor::event(const std::string& action, std::vector<std::pair<std::string, std::string>> more) {
  Event happened{"container", action, request_.id, request_.attributes};
  for (auto& attribute : more) happened.attributes.push_back(std::move(attribute));
  (void)append_event(request_.places.state, happened);
}

void Monitor::publish() { (void)write_state(run_directory_, to_json(state_), false); }

}  // namespace fastdock::monitor
