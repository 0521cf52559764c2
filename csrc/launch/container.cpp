#include "launch/container.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/path.h"
#include "launch/own_cgroup.h"
#include "rootfs/prepare.h"

namespace fastdock::launch {
namespace {

Result<void> make_directory(const std::string& path, mode_t mode, uid_t owner) {
  if (::mkdir(path.c_str(), 0700) != 0)
    return failed(Operation::kPrepareDirectory, path, errno == ENOSPC ? Hint::kNoSpace : Hint::kNone);
  if (owner != 0 && ::lchown(path.c_str(), owner, owner) != 0) return failed(Operation::kSetOwner, path);
  // chmod, because mkdir's mode passes the caller's umask.
  if (mode != 0700 && ::chmod(path.c_str(), mode) != 0) return failed(Operation::kSetMode, path);
  return {};
}

void name_after(LaunchPlan& plan, std::string hostname) {
  auto names_host = [](const std::string& variable) { return variable.starts_with("HOSTNAME="); };
  if (std::ranges::none_of(plan.environment, names_host)) plan.environment.push_back("HOSTNAME=" + hostname);
  plan.hostname = std::move(hostname);
}

}  // namespace

Container::Container(std::shared_ptr<Session> session, const ContainerOptions& options)
    : session_(std::move(session)),
      options_(options),
      id_(options.id.empty() ? session_->new_id() : options.id),
      directory_(session_->places().state + "/containers/" + id_),
      owner_(::getpid()) {}

Result<std::unique_ptr<Container>> Container::make(std::shared_ptr<Session> session, LaunchPlan& plan,
                                                   const ContainerOptions& options) {
  std::unique_ptr<Container> container(new Container(std::move(session), options));
  if (plan.hostname.empty() &&
      plan.namespaces[static_cast<std::size_t>(Namespace::kUts)].mode == NamespaceMode::kNew)
    name_after(plan, container->id_.substr(0, 12));
  FASTDOCK_CHECK(container->make_directories(plan));
  FASTDOCK_CHECK(container->make_cgroup(plan));
  return container;
}

Result<std::unique_ptr<Container>> Container::start(std::shared_ptr<Session> session, LaunchPlan plan,
                                                    const ContainerOptions& options,
                                                    const Observer& observer) {
  FASTDOCK_TRY(auto container, make(std::move(session), plan, options));
  FASTDOCK_TRY(container->process_, launch(plan, observer));
  container->launched();
  return container;
}

Result<std::unique_ptr<Container>> Container::prepare(std::shared_ptr<Session> session, LaunchPlan plan,
                                                      const ContainerOptions& options, Observer observer) {
  FASTDOCK_TRY(auto container, make(std::move(session), plan, options));
  FASTDOCK_TRY(container->held_,
               HeldLaunch::begin(std::move(plan), options.held_in_filter, std::move(observer)));
  container->join_ = {};
  return container;
}

Result<void> Container::begin(HeldProgram program) {
  if (!held_) return failed_with(EALREADY, Operation::kWaitForStart, id_);
  auto process = held_->go(std::move(program));
  held_.reset();
  if (!process) return std::unexpected(std::move(process.error()));
  process_ = std::move(*process);
  launched();
  return {};
}

// What was needed for the launch alone goes.
void Container::launched() {
  join_ = {};
  if (!options_.keep_memory) process_.memory.reset();
  for (const std::string& path : process_.unmapped)
    warnings_.push_back(path + ": its file system cannot map user ids; files there show as nobody's");
}

Container::~Container() {
  if (::getpid() != owner_) return;
  held_.reset();
  if (process_.pidfd && !status_) {
    (void)kill(SIGKILL);
    (void)wait(-1);
  }
  if (!remove()) session_->keep_for_repair();
}

Result<void> Container::make_directories(LaunchPlan& plan) {
  if (options_.own_ids) {
    const Places& places = session_->places();
    FASTDOCK_TRY(ids_, take_ids(places.run, places.state + "/ids"));
    plan.uid_map = plan.gid_map = {{0, ids_->first_id(), kIdsPerRange}};
  }
  int number = 0;
  if (plan.root) FASTDOCK_CHECK(make_directory_for(*plan.root, number++));
  for (Mount& mount : plan.mounts)
    if (mount.type == "overlay") FASTDOCK_CHECK(make_directory_for(mount, number++));
  return {};
}

// containers/ID for the root, containers/ID/1, 2 … for further overlays.  The container's root opens upper/
// and work/ below it, so the directory is theirs; nobody else gets past the state directory.
Result<void> Container::make_directory_for(Mount& mount, int number) {
  if (mount.type != "overlay") return {};
  if (options_.in_memory) {
    mount.in_memory = true;
    return {};
  }
  uid_t owner = ids_ ? ids_->first_id() : 0;
  mount.directory = number == 0 ? directory_ : directory_ + "/" + std::to_string(number);
  has_directory_ = true;
  FASTDOCK_CHECK(make_directory(mount.directory, 0700, owner));
  FASTDOCK_CHECK(make_directory(mount.directory + "/upper", rootfs::root_mode(mount), owner));
  return make_directory(mount.directory + "/work", 0755, owner);
}

Result<void> Container::make_cgroup(LaunchPlan& plan) {
  FASTDOCK_TRY(auto hierarchies, cgroup::Hierarchies::machine());
  cgroup::CreateOptions options;
  options.ends_with_first = ends_with_first_ =
      plan.namespaces[static_cast<std::size_t>(Namespace::kPid)].mode == NamespaceMode::kNew;
  FASTDOCK_TRY(cgroup_, cgroup::Cgroup::create(*hierarchies, session_->places().cgroup_parent + "/" + id_,
                                               options_.limits, options));
  warnings_ = cgroup_->warnings();
  show_own_cgroup(*cgroup_, plan);
  FASTDOCK_TRY(join_, start_in(*cgroup_, plan));
  return {};
}

Result<std::optional<ExitStatus>> Container::wait(int timeout_ms) {
  // Several threads may wait: all see the end, one asks for the status.
  pollfd ended{process_.pidfd.get(), POLLIN, 0};
  int ready = ::poll(&ended, 1, timeout_ms);
  if (ready < 0) return failed(Operation::kWaitForProcess);
  std::scoped_lock lock(status_mutex_);
  if (status_ || ready == 0) return status_;
  FASTDOCK_TRY(status_, launch::wait(process_, 0));
  return status_;
}

Result<void> Container::kill(int signal) {
  if (status_) return {};
  return send_signal(process_, signal);
}

Result<cgroup::Usage> Container::finish() {
  held_.reset();
  Result<cgroup::Usage> usage = cgroup_ ? cgroup_->usage() : cgroup::Usage{};
  FASTDOCK_CHECK(remove());
  return usage;
}

Result<void> Container::remove() {
  process_.memory.reset();  // before the cgroup that its pages are charged to
  if (cgroup_) {
    // Without a PID namespace of its own, a container's other processes outlive the first.
    if (!ends_with_first_) {
      FASTDOCK_TRY(auto left, cgroup_->processes());
      if (!left.empty()) FASTDOCK_CHECK(cgroup_->kill_all());
    }
    FASTDOCK_CHECK(cgroup_->remove());
    cgroup_.reset();
  }
  if (has_directory_) {
    FASTDOCK_CHECK(remove_tree(AT_FDCWD, directory_));
    has_directory_ = false;
  }
  if (ids_) give_back(session_->places().run, std::move(ids_));
  return {};
}

}  // namespace fastdock::launch
