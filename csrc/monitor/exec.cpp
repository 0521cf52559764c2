#include "monitor/exec.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>

#include "base/path.h"
#include "launch/own_cgroup.h"
#include "net/attach.h"

namespace fastdock::monitor {
namespace {

constexpr std::array<const char*, static_cast<std::size_t>(launch::Namespace::kCount_)> kFiles = {
    "user", "mnt", "uts", "ipc", "net", "cgroup", "time", "pid"};

void aim_at(LaunchPlan& plan, pid_t target) {
  for (std::size_t i = 0; i < kFiles.size(); ++i) {
    launch::NamespacePlan& wanted = plan.namespaces[i];
    if (wanted.mode == launch::NamespaceMode::kJoin && wanted.path.empty())
      wanted.path = "/proc/" + std::to_string(target) + "/ns/" + kFiles[i];
  }
}

// A container that shares another's network was born in it (Monitor::born_in_network), and so is what is
// started in it.  With the host's network, where we usually are, nothing is to be done.
Result<std::optional<net::NamespaceVisit>> visit_network(const LaunchPlan& plan, pid_t target) {
  constexpr auto kNet = static_cast<std::size_t>(launch::Namespace::kNet);
  if (plan.namespaces[kNet].mode != launch::NamespaceMode::kHost) return std::nullopt;
  FASTDOCK_TRY(Fd theirs, open_file("/proc/" + std::to_string(target) + "/ns/net", O_RDONLY));
  struct stat there{};
  struct stat here{};
  if (::fstat(theirs.get(), &there) == 0 && ::stat("/proc/thread-self/ns/net", &here) == 0 &&
      there.st_ino == here.st_ino)
    return std::nullopt;
  FASTDOCK_TRY(auto visit, net::NamespaceVisit::begin(theirs.get()));
  return std::optional(std::move(visit));
}

// A living monitor says that its container has this process, and has not reaped it: so the number is its.
Result<void> check_target(const Places& places, const std::string& id, pid_t target) {
  std::string path = run_directory(places, id);
  auto gone = [&] { return failed_with(ESRCH, Operation::kJoinNamespace, id, Hint::kProcessGone); };
  auto state = read_file(path + "/state.json");
  if (!state || state->find("\"pid\":" + std::to_string(target) + ",") == std::string::npos) return gone();
  auto directory = open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!directory || ::flock(directory->get(), LOCK_SH | LOCK_NB) == 0) return gone();
  return {};
}

std::string group_name(const Places& places, const std::string& id) {
  static std::atomic<unsigned> number = 0;
  return places.cgroup_parent + "/" + id + "/exec-" + std::to_string(::getpid()) + "-" +
         std::to_string(number++);
}

}  // namespace

LaunchPlan exec_plan(const LaunchPlan& plan) {
  LaunchPlan made = plan;
  for (launch::NamespacePlan& wanted : made.namespaces)
    if (wanted.mode == launch::NamespaceMode::kNew) wanted = {launch::NamespaceMode::kJoin, ""};
  // What was done when the container was made stays as it is.
  made.root.reset();
  made.mounts.clear(), made.devices.clear(), made.links.clear();
  made.masked_paths.clear(), made.read_only_paths.clear(), made.sysctls.clear();
  made.uid_map.clear(), made.gid_map.clear(), made.clock_offsets.clear();
  made.hostname.clear(), made.domainname.clear();
  made.raise_loopback = made.init = false;
  made.terminal.reset();
  made.stdio = {0, 1, 2};
  return made;
}

Result<launch::Process> start_in(const cgroup::Cgroup& group, pid_t target, LaunchPlan plan,
                                 const launch::Observer& observer) {
  aim_at(plan, target);
  FASTDOCK_TRY(auto join, launch::start_in(group, plan));
  FASTDOCK_TRY(auto visit, visit_network(plan, target));
  return launch::launch(plan, observer);
}

Result<Exec> Exec::start(const Places& places, const std::string& id, LaunchPlan plan, ExecOptions options) {
  Exec exec;
  FASTDOCK_TRY(auto hierarchies, cgroup::Hierarchies::machine());
  auto group = cgroup::Cgroup::open(*hierarchies, places.cgroup_parent + "/" + id);
  if (!group) return failed_with(ESRCH, Operation::kJoinCgroup, id, Hint::kProcessGone);
  if (options.own_group) {
    FASTDOCK_TRY(exec.group_, cgroup::Cgroup::create(*hierarchies, group_name(places, id), {}));
  }
  launch::Observer observer;
  observer.ready = [&](pid_t) { return check_target(places, id, options.target); };
  auto process = start_in(exec.group_ ? *exec.group_ : *group, options.target, std::move(plan), observer);
  if (!process) {
    if (exec.group_) (void)exec.group_->remove();
    // ENOENT: /proc/PID is gone.
    if (process.error().operation == Operation::kOpenNamespace && process.error().number == ENOENT)
      return failed_with(ESRCH, Operation::kJoinNamespace, id, Hint::kProcessGone);
    return std::unexpected(std::move(process.error()));
  }
  exec.process_ = std::move(*process);
  return exec;
}

Result<void> Exec::kill_all() const {
  if (group_ && !group_->is_nowhere()) return group_->kill_all();
  auto sent = launch::send_signal(process_, SIGKILL);
  return sent || sent.error().number == ESRCH ? Result<void>{} : sent;
}

Result<void> Exec::remove_group() const { return group_ ? group_->remove() : Result<void>{}; }

}  // namespace fastdock::monitor
