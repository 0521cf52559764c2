#include "launch/container.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/path.h"

namespace fastdock::launch {
namespace {

constexpr const char* kContainers = "/containers/";

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

Result<void> make_directory(const std::string& path, mode_t mode, std::optional<std::uint32_t> owner = {}) {
  if (::mkdir(path.c_str(), mode) != 0) return failed(Operation::kPrepareDirectory, path, errno == ENOSPC ? Hint::kNoSpace : Hint::kNone);
  if (owner && ::lchown(path.c_str(), *owner, *owner) != 0) return failed(Operation::kSetOwner, path);
  return {};
}

}  // namespace

Container::Container(const ContainerOptions& options)
    : id_(options.id),
      state_directory_(options.state_directory),
      run_directory_(options.run_directory),
      cgroup_path_(options.cgroup_parent + "/" + options.id),
      limits_(options.limits),
      own_ids_(options.own_ids) {}

Result<std::unique_ptr<Container>> Container::start(LaunchPlan plan, const ContainerOptions& options,
                                                    const Observer& observer) {
  std::unique_ptr<Container> container(new Container(options));
  FASTDOCK_CHECK(container->make_run_directory());
  FASTDOCK_CHECK(container->make_state_directory(plan));
  FASTDOCK_CHECK(container->make_cgroup(plan));
  FASTDOCK_TRY(container->process_, launch(plan, observer));
  container->join_ = {};
  for (const std::string& path : container->process_.unmapped)
    container->warnings_.push_back(path + ": its file system cannot map user ids; files there show as nobody's");
  return container;
}

Container::~Container() {
  if (process_.pidfd && !status_) {
    (void)kill(SIGKILL);
    (void)wait(-1);
  }
  (void)remove();
}

Result<void> Container::make_run_directory() {
  std::string path = run_directory_ + kContainers + id_;
  FASTDOCK_CHECK(make_directory(path, 0700));
  FASTDOCK_TRY(run_lock_, open_file(path, O_RDONLY | O_DIRECTORY));
  // Between mkdir and flock a repairing process may have taken this for an abandoned one and removed it.
  struct stat status {};
  if (::flock(run_lock_.get(), LOCK_EX | LOCK_NB) != 0 || ::fstat(run_lock_.get(), &status) != 0 || status.st_nlink == 0) {
    run_lock_.reset();
    return make_run_directory();
  }
  return {};
}

Result<void> Container::make_state_directory(LaunchPlan& plan) {
  if (own_ids_) {
    FASTDOCK_TRY(ids_, take_ids(run_directory_, state_directory_ + "/ids"));
    plan.uid_map = plan.gid_map = {{0, ids_->first_id(), kIdsPerRange}};
  }
  std::optional<std::uint32_t> owner;
  if (ids_) owner = ids_->first_id();
  int number = 0;
  auto fill = [&](Mount& mount) -> Result<void> {
    if (mount.type != "overlay") return {};
    // containers/ID for the root, containers/ID/1, 2 … for further overlays.
    std::string path = state_directory_ + kContainers + id_;
    if (!has_state_) {
      // The child's root opens upper/ and work/ below it, so it is theirs; nobody else reaches it.
      FASTDOCK_CHECK(make_directory(path, 0700, owner));
      has_state_ = true;
    }
    if (number > 0) {
      path += "/" + std::to_string(number);
      FASTDOCK_CHECK(make_directory(path, 0700, owner));
    }
    ++number;
    FASTDOCK_CHECK(make_directory(path + "/upper", 0755, owner));
    FASTDOCK_CHECK(make_directory(path + "/work", 0755, owner));
    mount.directory = path;
    return {};
  };
  if (plan.root) FASTDOCK_CHECK(fill(*plan.root));
  for (Mount& mount : plan.mounts) FASTDOCK_CHECK(fill(mount));
  return {};
}

Result<void> Container::make_cgroup(LaunchPlan& plan) {
  FASTDOCK_TRY(auto hierarchies, cgroup::Hierarchies::machine());
  FASTDOCK_TRY(cgroup_, cgroup::Cgroup::create(*hierarchies, cgroup_path_, limits_));
  warnings_ = cgroup_->warnings();
  FASTDOCK_TRY(join_, cgroup_->join());
  for (const Fd& tasks : join_.tasks) plan.cgroup_tasks.push_back(tasks.get());
  plan.cgroup_directory = join_.directory.get();
  return {};
}

Result<std::optional<ExitStatus>> Container::wait(int timeout_ms) {
  if (status_) return status_;
  FASTDOCK_TRY(status_, launch::wait(process_, timeout_ms));
  return status_;
}

Result<void> Container::kill(int signal) {
  if (status_) return {};
  return send_signal(process_, signal);
}

Result<cgroup::Usage> Container::finish() {
  Result<cgroup::Usage> usage = cgroup_ ? cgroup_->usage() : cgroup::Usage{};
  FASTDOCK_CHECK(remove());
  return usage;
}

Result<void> Container::remove() {
  if (!run_lock_) return {};
  // The owner's lock goes last: what is left when this fails or is killed is found by remove_abandoned.
  if (cgroup_) {
    // Without a PID namespace of its own, a container's other processes outlive the first.
    FASTDOCK_TRY(auto left, cgroup_->processes());
    if (!left.empty()) FASTDOCK_CHECK(cgroup_->kill_all());
    FASTDOCK_CHECK(cgroup_->remove());
    cgroup_.reset();
  }
  if (has_state_) {
    FASTDOCK_CHECK(remove_tree(AT_FDCWD, state_directory_ + kContainers + id_));
    has_state_ = false;
  }
  if (ids_) give_back(run_directory_, std::move(ids_));
  FASTDOCK_CHECK(remove_tree(AT_FDCWD, run_directory_ + kContainers + id_));
  run_lock_.reset();
  return {};
}

namespace {

// True when it was abandoned and is gone now.
Result<bool> remove_if_abandoned(const std::string& id, const std::string& state_directory,
                                 const std::string& run_directory, const std::string& cgroup_parent) {
  std::string run_path = run_directory + kContainers + id;
  auto directory = open_file(run_path, O_RDONLY | O_DIRECTORY);
  if (!directory) return false;  // gone meanwhile
  if (::flock(directory->get(), LOCK_EX | LOCK_NB) != 0) return false;
  struct stat status {};
  if (::fstat(directory->get(), &status) != 0 || status.st_nlink == 0) return false;
  FASTDOCK_TRY(auto hierarchies, cgroup::Hierarchies::machine());
  if (auto cgroup = cgroup::Cgroup::open(*hierarchies, cgroup_parent + "/" + id)) {
    FASTDOCK_CHECK(cgroup->kill_all());
    FASTDOCK_CHECK(cgroup->remove());
  }
  FASTDOCK_CHECK(remove_tree(AT_FDCWD, state_directory + kContainers + id));
  FASTDOCK_CHECK(remove_tree(AT_FDCWD, run_path));
  return true;
}

}  // namespace

Result<int> remove_abandoned(const std::string& state_directory, const std::string& run_directory,
                             const std::string& cgroup_parent) {
  std::string path = run_directory + "/containers";
  std::unique_ptr<DIR, CloseDirectory> stream(::opendir(path.c_str()));
  if (!stream) return failed(Operation::kListDirectory, path);
  int count = 0;
  while (const dirent* entry = ::readdir(stream.get())) {
    if (entry->d_name[0] == '.') continue;
    FASTDOCK_TRY(bool removed, remove_if_abandoned(entry->d_name, state_directory, run_directory, cgroup_parent));
    if (removed) ++count;
  }
  return count;
}

}  // namespace fastdock::launch
