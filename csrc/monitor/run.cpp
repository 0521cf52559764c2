// One run of the program: start, end, and what follows.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/path.h"
#include "launch/own_cgroup.h"
#include "monitor/json.h"
#include "monitor/monitor.h"
#include "monitor/places.h"

namespace fastdock::monitor {
namespace {

using std::chrono::milliseconds;

// moby, restartmanager/restartmanager.go
constexpr milliseconds kFirstBackoff{100};
constexpr milliseconds kLongestBackoff{60'000};
constexpr auto kLongRun = std::chrono::seconds(10);

struct Pipe {
  Fd read, write;
};

// Our end does not block.  Theirs may be opened again in the container through /dev/stdout, by any of its
// users.
Result<Pipe> make_pipe(bool we_read) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return failed(Operation::kCreatePipe);
  Pipe pipe{Fd(ends[0]), Fd(ends[1])};
  const Fd& ours = we_read ? pipe.read : pipe.write;
  if (::fcntl(ours.get(), F_SETFL, O_NONBLOCK) != 0 || ::fchmod(ours.get(), 0666) != 0)
    return failed(Operation::kCreatePipe);
  return pipe;
}

std::string seconds_since(Clock::time_point begin) {
  return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - begin).count());
}

}  // namespace

Result<void> Monitor::start() {
  FASTDOCK_TRY(lock_, take_run_directory(request_.places, request_.id));
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_BLOCK, &all, nullptr);
  signals_ = Fd(::signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK));
  state_.monitor = ::getpid();
  Result<void> started = clients_.listen(lock_.get());
  if (started) started = write_files();
  if (started) started = run();
  if (started) return started;
  group_.reset();
  (void)remove_tree(AT_FDCWD, run_directory_);
  return started;
}

// They belong to the container's root: so no mount of them needs to map ids.
Result<void> Monitor::write_files() const {
  for (const auto& [name, text] : request_.files) {
    std::string path = run_directory_ + '/' + name;
    FASTDOCK_TRY(Fd file, open_at(lock_.get(), name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0644));
    if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
      return failed(Operation::kWriteFile, path, errno == ENOSPC ? Hint::kNoSpace : Hint::kNone);
    const LaunchPlan& plan = request_.plan;
    if (plan.uid_map.empty() || plan.gid_map.empty()) continue;
    if (::fchown(file.get(), plan.uid_map.front().outside, plan.gid_map.front().outside) != 0)
      return failed(Operation::kSetOwner, path);
  }
  return {};
}

Result<void> Monitor::run() {
  FASTDOCK_TRY(auto hierarchies, cgroup::Hierarchies::machine());
  std::string name = request_.places.cgroup_parent + "/" + request_.id;
  FASTDOCK_TRY(group_, cgroup::Cgroup::create(*hierarchies, name, request_.limits));
  warnings_ = group_->warnings();
  auto launched = [&]() -> Result<launch::Process> {
    LaunchPlan plan = request_.plan;
    launch::show_own_cgroup(*group_, plan);
    FASTDOCK_TRY(auto join, launch::start_in(*group_, plan));
    // The container does not outlive its monitor: nobody would note its end.
    plan.parent_death_signal = SIGKILL;
    if (!plan.oom_score_adjustment) plan.oom_score_adjustment = 0;  // not the monitor's own
    FASTDOCK_CHECK(make_streams(plan));
    launch::Observer observer;
    if (request_.network)
      observer.created = [this](pid_t pid) { return net::attach_process(*request_.network, pid); };
    auto process = born_in_network([&] { return launch::launch(plan, observer); });
    for (int fd : plan.stdio) ::close(fd);
    return process;
  }();
  if (!launched) {
    output_.reset(), errors_.reset(), input_.reset();
    if (request_.network) (void)net::detach(*request_.network);
    (void)group_->remove();
    return std::unexpected(std::move(launched.error()));
  }
  process_ = std::move(*launched);
  for (const std::string& path : process_->unmapped)
    warnings_.push_back(path + ": its file system cannot map user ids; files there show as nobody's");
  became_running();
  return {};
}

// A network namespace belongs to the user namespace that it was made in, so a container with ids of its own
// cannot join another's: it is born there.  The namespace is kept for further starts.
Result<launch::Process> Monitor::born_in_network(const std::function<Result<launch::Process>()>& start) {
  if (request_.network_of.empty()) return start();
  if (!shared_network_) {
    FASTDOCK_TRY(shared_network_, open_file(request_.network_of, O_RDONLY));
  }
  FASTDOCK_TRY(auto visit, net::NamespaceVisit::begin(shared_network_.get()));
  return start();
}

// The program's ends are put into the plan, for run() to close.
Result<void> Monitor::make_streams(LaunchPlan& plan) {
  auto null = open_file("/dev/null", O_RDWR);
  if (!null) return std::unexpected(null.error());
  for (int& fd : plan.stdio) fd = ::fcntl(null->get(), F_DUPFD_CLOEXEC, 3);
  pending_input_.clear();
  input_ends_ = false;
  if (plan.terminal) return {};
  auto give = [](int& slot, Fd end) {
    ::close(slot);
    slot = end.release();
  };
  if (request_.open_stdin) {
    FASTDOCK_TRY(Pipe pipe, make_pipe(false));
    input_ = std::move(pipe.write);
    give(plan.stdio[0], std::move(pipe.read));
  }
  FASTDOCK_TRY(Pipe output, make_pipe(true));
  output_ = std::move(output.read);
  give(plan.stdio[1], std::move(output.write));
  FASTDOCK_TRY(Pipe errors, make_pipe(true));
  errors_ = std::move(errors.read);
  give(plan.stdio[2], std::move(errors.write));
  return {};
}

void Monitor::became_running() {
  if (process_->terminal) {
    output_ = std::move(process_->terminal);
    (void)::fcntl(output_.get(), F_SETFL, O_NONBLOCK);
    // Held open, so that reading gives no EIO whenever no process of the container has its terminal open.
    terminal_side_ = Fd(::ioctl(output_.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  }
  memory_kills_ = 0;
  started_ = Clock::now();
  state_.status = Status::kRunning;
  state_.pid = process_->pid;
  state_.exit_code = 0;
  state_.oom_killed = false;
  state_.error.clear();
  state_.started = now();
  state_.finished = {};
  if (health_) {
    health_->begin(process_->pid);
    state_.health = health_->state();
  }
  publish();
  event("start");
}

// What nobody has to wait for.
void Monitor::settle() {
  if (auto watched = group_->watch_oom()) memory_events_ = std::move(*watched);
  // Not synced: whether a reboot finds this or the record before it makes no difference.
  (void)write_state(state_directory_, to_json(state_), false);
}

void Monitor::program_ended() {
  if (state_.status == Status::kPaused) (void)group_->freeze(false);
  if (health_) health_->pause();
  // Without a PID namespace of its own, a container's other processes outlive the first.
  auto left = group_->processes();
  if (left && std::ranges::any_of(*left, [&](pid_t pid) { return pid != process_->pid; }))
    (void)group_->kill_all();
  drain_streams();
  log_.finish();
  input_.reset(), terminal_side_.reset(), memory_events_.reset();

  // The state says that it has ended before its number is free for another process (exec.cpp).
  siginfo_t info{};
  int waited = ::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(process_->pidfd.get()), &info,
                        WEXITED | __WALL | WNOWAIT);
  if (waited == 0) state_.exit_code = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
  if (auto usage = group_->usage()) state_.oom_killed = usage->oom_kills > 0;
  state_.finished = now();
  state_.pid = 0;
  bool again = should_restart();
  state_.status = again ? Status::kRestarting : Status::kExited;
  if (!again) state_.monitor = 0;
  if (again) ++state_.restart_count;
  publish();
  (void)launch::wait(*process_, -1);
  process_.reset();
  kill_at_.reset();
  if (!again) (void)write_state(state_directory_, to_json(state_), !request_.remove && !forget_);
  event("die", {{"exitCode", std::to_string(state_.exit_code)}, {"execDuration", seconds_since(started_)}});
  if ((state_.stopped_by_user || goes_down_) && !again) event("stop");
  reap_others();
  // The devices have gone with the network namespace.
  if (request_.network) (void)net::release(*request_.network);
  (void)group_->remove();
  group_.reset();
  if (!again) {
    launch::remove_own_parent(request_.places);
    return finish();
  }
  clients_.exited(state_.exit_code);
  backoff_ = Clock::now() - started_ >= kLongRun || backoff_.count() == 0
                 ? kFirstBackoff
                 : std::min(backoff_ * 2, kLongestBackoff);
  restart_at_ = Clock::now() + backoff_;
}

bool Monitor::should_restart() const {
  if (state_.stopped_by_user || goes_down_) return false;
  switch (request_.restart.policy) {
    case RestartPolicy::kNo:
      return false;
    case RestartPolicy::kOnFailure:
      return state_.exit_code != 0 && (request_.restart.maximum == 0 ||
                                       state_.restart_count < static_cast<int>(request_.restart.maximum));
    case RestartPolicy::kAlways:
    case RestartPolicy::kUnlessStopped:
      break;
  }
  return true;
}

void Monitor::restart() {
  restart_at_.reset();
  auto started = run();
  if (started) return settle();
  state_.error = describe(started.error());
  abandon();
}

// While it waited to be started again.
void Monitor::abandon() {
  restart_at_.reset();
  state_.status = Status::kExited;
  state_.monitor = 0;
  (void)write_state(state_directory_, to_json(state_), true);
  finish();
}

void Monitor::finish() {
  if (request_.remove) {
    (void)remove_tree(AT_FDCWD, state_directory_);
    release_ids(request_.places, request_.ids);
    event("destroy");
  }
  (void)remove_tree(AT_FDCWD, run_directory_);
  clients_.exited(state_.exit_code);
  clients_.stopped();
  done_ = true;
}

}  // namespace fastdock::monitor
