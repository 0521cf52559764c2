#include "oci/create.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "base/path.h"
#include "base/user_namespace.h"
#include "launch/own_cgroup.h"
#include "oci/ahead.h"
#include "oci/cgroups.h"
#include "oci/hooks.h"
#include "oci/host_root.h"
#include "oci/listener.h"
#include "oci/network_device.h"
#include "oci/rootless.h"
#include "oci/systemd.h"
#include "oci/terminal.h"

namespace fastdock::oci {
namespace {

using launch::LaunchPlan;

Result<void> check_terminal(const Config& config, const CreateRequest& request) {
  auto refused = [](const char* what) { return failed_with(EINVAL, Operation::kUseContainer, what); };
  bool detached = !request.foreground;
  if (config.terminal && detached && request.console_socket.empty())
    return refused("cannot allocate a terminal for a detached container without --console-socket");
  if (!config.terminal && !request.console_socket.empty())
    return refused("--console-socket is given, but process.terminal is not true");
  return {};
}

Result<void> check_rootfs(const Config& config) {
  struct stat status{};
  if (::stat(config.rootfs.c_str(), &status) != 0) return failed(Operation::kOpenRoot, config.rootfs);
  if (!S_ISDIR(status.st_mode)) return failed_with(ENOTDIR, Operation::kOpenRoot, config.rootfs);
  return {};
}

// In a new scope a process of ours counts, too, until the container's is there.
cgroup::Limits limits_beside_holder(cgroup::Limits limits) {
  if (limits.pids && *limits.pids > 0) ++*limits.pids;
  return limits;
}

// One creation, from an empty directory to a process that waits or runs.
class Creation {
 public:
  Creation(const Context& context, const CreateRequest& request, Config config, Container container,
           std::unique_ptr<Ahead> ahead)
      : context_(context),
        request_(request),
        config_(std::move(config)),
        container_(std::move(container)),
        ahead_(std::move(ahead)) {}

  Result<Created> run(std::string_view config_text) {
    auto process = make(config_text);
    if (!process) {
      undo();
      return std::unexpected(std::move(process.error()));
    }
    return Created{std::move(container_), std::move(*process), std::move(config_.hooks), std::move(notify_)};
  }

 private:
  Result<launch::Process> make(std::string_view config_text) {
    FASTDOCK_CHECK(container_.lock());
    FASTDOCK_CHECK(container_.save_config(config_text));
    State& state = container_.state;
    state.version = config_.version;
    state.bundle = config_.bundle;
    state.rootfs = config_.rootfs;
    state.created = timestamp();
    state.annotations = config_.annotations;
    if (::geteuid() == 0) state.owner = "root";
    FASTDOCK_CHECK(enter_user_namespace(config_.plan));
    if (!ahead_) ahead_ = Ahead::start(config_.plan);
    FASTDOCK_CHECK(plan_cgroup());
    FASTDOCK_CHECK(prepare_host_root());
    FASTDOCK_CHECK(complete_plan());
    if (ahead_) ahead_->begin(config_.plan);
    FASTDOCK_CHECK(make_cgroup());
    // The cgroup and the mount are known: whoever finds this after our SIGKILL can remove them.  A cgroup
    // alone may be written down while the clone is made, which does nothing before our word
    // (make_observer()).
    if (!ahead_ || host_root_) FASTDOCK_CHECK(container_.save());
    if (host_root_) FASTDOCK_CHECK(host_root_->attach());
    context_.debug_log("container " + state.id + ": cgroup " + state.cgroup + ", root " + config_.rootfs);
    FASTDOCK_TRY(auto process, launch::launch(config_.plan, make_observer()));
    ahead_.reset();
    context_.debug_log("container " + state.id + ": process " + std::to_string(process.pid));
    if (auto finished = finish(process); !finished) {
      (void)launch::send_signal(process, SIGKILL);
      (void)launch::wait(process, -1);
      return std::unexpected(std::move(finished.error()));
    }
    return process;
  }

  // Where its cgroup will be, and what the container sees of it.
  Result<void> plan_cgroup() {
    FASTDOCK_TRY(const cgroup::Hierarchies* hierarchies, cgroup::Hierarchies::machine());
    if (context_.systemd_cgroup) {
      FASTDOCK_CHECK(start_scope(hierarchies->version()));
    } else {
      FASTDOCK_TRY(cgroup_, cgroup_path(config_, container_.state.id));
    }
    return add_cgroup_mounts(cgroup_, config_.plan);
  }

  Result<void> start_scope(cgroup::Version version) {
    FASTDOCK_TRY(scope_, NewScope::start(config_, container_.state.id, version));
    cgroup_ = scope_->cgroup();
    // From here on it is ours, to be removed.
    container_.state.systemd_unit = scope_->unit();
    container_.state.cgroup = cgroup_;
    FASTDOCK_TRY(systemd_attaches_, scope_is_out_of_reach(container_.state));
    return {};
  }

  Result<void> make_cgroup() {
    FASTDOCK_TRY(const cgroup::Hierarchies* hierarchies, cgroup::Hierarchies::machine());
    // Rules of devices need the host's root, whoever may make the cgroup, and where nobody can make nodes
    // they add nothing (runc leaves them out, too).
    if (!in_initial_user_namespace()) config_.limits.devices.clear();
    FASTDOCK_TRY(cgroup::Cgroup group, scope_ ? make_in_scope(*hierarchies) : make_group(*hierarchies));
    // Where none could be made, the container runs in the caller's: not for who says that it is not rootless.
    if (context_.rootless == false && group.is_nowhere())
      return failed_with(EACCES, Operation::kCreateCgroup, container_.state.id, Hint::kNotDelegated);
    container_.state.cgroup = group.path();
    for (const std::string& warning : group.warnings()) context_.warn(warning);
    FASTDOCK_TRY(join_, launch::start_in(group, config_.plan));
    if (systemd_attaches_) config_.plan.cgroup_directory = -1;
    FASTDOCK_TRY(own_view_, rootfs::open_late_sources(config_.plan.mounts));
    for (const Fd& directory : own_view_) config_.plan.late_sources.push_back(directory.get());
    return {};
  }

  // Without a mount namespace of its own, the container's mounts are made where the caller's are.
  Result<void> prepare_host_root() {
    if (!is_on_host(config_)) return {};
    FASTDOCK_TRY(host_root_, HostRoot::make(config_.rootfs));
    container_.state.root_mount = host_root_->id();
    config_.plan.root_change = rootfs::RootChange::kChroot;
    config_.plan.attach_point = config_.rootfs;
    return {};
  }

  Result<cgroup::Cgroup> make_group(const cgroup::Hierarchies& hierarchies) {
    cgroup::CreateOptions options;
    options.all_controllers = true;
    auto made = cgroup::Cgroup::create(hierarchies, cgroup_, config_.limits, options);
    // Its state does not name such a cgroup: it is somebody else's, and stays.
    if (!made && made.error().number == EEXIST)
      return failed_with(EBUSY, Operation::kUseContainer, "the container's cgroup is not empty: " + cgroup_);
    if (!made) return made;
    // Who enters it would stop, and we would wait for ever.
    if (auto frozen = made->is_frozen(); frozen && *frozen)
      return failed_with(EBUSY, Operation::kUseContainer,
                         "the container's cgroup unexpectedly frozen: " + cgroup_);
    return made;
  }

  Result<cgroup::Cgroup> make_in_scope(const cgroup::Hierarchies& hierarchies) {
    cgroup::CreateOptions options;
    options.all_controllers = true;
    options.occupied = true;
    return cgroup::Cgroup::create(hierarchies, cgroup_, limits_beside_holder(config_.limits), options);
  }

  // The scope is the container's alone.
  Result<void> empty_scope() {
    if (!scope_) return {};
    scope_.reset();
    if (!config_.limits.pids) return {};
    cgroup::Limits limits;
    limits.pids = config_.limits.pids;
    FASTDOCK_TRY(const cgroup::Hierarchies* hierarchies, cgroup::Hierarchies::machine());
    FASTDOCK_TRY(auto group, cgroup::Cgroup::open(*hierarchies, container_.state.cgroup));
    // Gone with its last process: no limit to be kept.
    if (auto updated = group.update(limits); !updated && updated.error().number != ENOENT) return updated;
    return {};
  }

  Result<void> complete_plan() {
    LaunchPlan& plan = config_.plan;
    if (!host_root_ && !request_.pivot) plan.root_change = rootfs::RootChange::kMove;
    plan.new_keyring = request_.new_keyring;
    if (config_.terminal && !plan.terminal) plan.terminal.emplace();
    if (plan.terminal) plan.terminal->plain_newlines = request_.foreground && request_.console_socket.empty();
    // config.md: execCPUAffinity is not for the first process.
    plan.initial_cpus.clear();
    plan.final_cpus = every_cpu();
    FASTDOCK_TRY(listener_, add_seccomp(config_.seccomp, plan));
    int descriptors = request_.preserve_descriptors;
    // sd_listen_fds(3): LISTEN_FDS of the caller's are the container's.
    if (const char* given = std::getenv("LISTEN_FDS"); given != nullptr && std::atoi(given) > 0) {
      descriptors += std::atoi(given);
      plan.environment.push_back(std::string("LISTEN_FDS=") + given);
      plan.environment.emplace_back("LISTEN_PID=1");
    }
    plan.preserve_descriptors = descriptors;
    FASTDOCK_CHECK(check_preserved(descriptors));
    if (is_notify_wanted()) {
      FASTDOCK_CHECK(add_notify_directory(container_, plan));
      if (request_.start) {
        FASTDOCK_TRY(notify_, NotifySocket::open(container_));
      }
    }
    if (!request_.start) {
      FASTDOCK_CHECK(container_.make_fifo());
      plan.start_fifo = container_.fifo();
    }
    return {};
  }

  std::string state_for_hooks(pid_t pid, Status status) {
    container_.state.pid = pid;
    return state_json(container_.state, status, StateFor::kHooks);
  }

  launch::Observer make_observer() {
    launch::Observer observer;
    const Hooks& hooks = config_.hooks;
    if (ahead_) {
      observer.begun = [this] { return ahead_->begun(); };
      observer.cloning = [this](const auto& clone) {
        ahead_->run(clone, [this] { saved_ = container_.save(); });
      };
    }
    observer.cloned = [this](pid_t pid) -> Result<void> {
      FASTDOCK_CHECK(std::move(saved_));
      if (systemd_attaches_) FASTDOCK_CHECK(attach_to_scope(scope_->unit(), "", pid));
      // Before the child goes on: what linux.sysctl says of a device (net.ipv4.conf.NAME) is set by it.
      return move_network_devices(config_, pid);
    };
    if (!hooks.prestart.empty() || !hooks.create_runtime.empty() || !hooks.create_container.empty())
      observer.mounted = [this](pid_t pid) { return run_creation_hooks(pid); };
    if (request_.start && !hooks.start_container.empty())
      observer.ready = [this](pid_t pid) -> Result<void> {
        std::string state = state_for_hooks(pid, Status::kCreated);
        FASTDOCK_TRY(LaunchPlan place, place_in_container(container_, config_));
        return run_hooks("startContainer", config_.hooks.start_container, state, place);
      };
    if (!listener_.path.empty())
      observer.listening = [this](pid_t pid, Fd listener) {
        container_.state.pid = pid;
        return send_listener(listener_, container_.state, listener.get());
      };
    return observer;
  }

  Result<void> run_creation_hooks(pid_t pid) {
    const Hooks& hooks = config_.hooks;
    std::string state = state_for_hooks(pid, Status::kCreating);
    FASTDOCK_CHECK(run_hooks("prestart", hooks.prestart, state, runtime_place(config_.bundle)));
    FASTDOCK_CHECK(run_hooks("createRuntime", hooks.create_runtime, state, runtime_place(config_.bundle)));
    if (hooks.create_container.empty()) return {};
    LaunchPlan place = runtime_place(config_.bundle);
    FASTDOCK_CHECK(join_namespaces_of(pid, place));
    place.working_directory = config_.rootfs;  // as runc
    return run_hooks("createContainer", hooks.create_container, state, place);
  }

  Result<void> finish(launch::Process& process) {
    FASTDOCK_CHECK(empty_scope());
    container_.state.pid = process.pid;
    container_.state.start_time = start_time_of(process.pid);
    FASTDOCK_CHECK(container_.save());
    if (process.terminal && !request_.console_socket.empty()) {
      FASTDOCK_CHECK(send_console(request_.console_socket, process.terminal.get()));
      process.terminal.reset();
    }
    FASTDOCK_CHECK(send_pidfd(request_.pidfd_socket, process, "standard"));
    if (!request_.pid_file.empty())
      FASTDOCK_CHECK(write_whole(request_.pid_file, std::to_string(process.pid), 0644));
    if (!request_.start) return {};
    // config.md: an error of these is logged, and the container goes on; runc ends it.
    return run_hooks("poststart", config_.hooks.poststart, state_for_hooks(process.pid, Status::kRunning),
                     runtime_place(config_.bundle));
  }

  void undo() {
    join_ = {};
    scope_.reset();
    container_.state.pid = 0;
    if (auto removed = remove_container(context_, container_, config_.hooks); !removed)
      context_.warn(message_of(removed.error()));
  }

  const Context& context_;
  const CreateRequest& request_;
  Config config_;
  Container container_;
  std::unique_ptr<Ahead> ahead_;
  std::string cgroup_;  // as Cgroup::create takes it
  std::optional<NewScope> scope_;
  std::optional<HostRoot> host_root_;
  bool systemd_attaches_ = false;
  Result<void> saved_;
  cgroup::Join join_;
  std::vector<Fd> own_view_;  // the cgroup's directories, as the container sees them
  SeccompListener listener_;
  std::optional<NotifySocket> notify_;
};

}  // namespace

Result<void> check_preserved(int count) {
  for (int number = 3; number < 3 + count; ++number)
    if (const int flags = ::fcntl(number, F_GETFD); flags < 0 || (flags & FD_CLOEXEC) != 0)
      return failed_with(EBADF, Operation::kUseContainer,
                         "--preserve-fds: descriptor " + std::to_string(number) + " is not open");
  return {};
}

Result<Created> create_container(const Context& context, const CreateRequest& request) {
  FASTDOCK_CHECK(check_id(request.id));
  // Read once: what is checked, launched and kept is the same text, whoever writes to the bundle meanwhile.
  FASTDOCK_TRY(std::string text, read_text(request.config_file));
  FASTDOCK_TRY(auto document, Document::parse(text, "config.json"));
  FASTDOCK_TRY(Config config, read_config(std::move(document), request.bundle));
  for (const std::string& warning : config.warnings) context.warn(warning);
  FASTDOCK_CHECK(check_terminal(config, request));
  FASTDOCK_CHECK(check_rootfs(config));
  FASTDOCK_CHECK(check_locked_attributes(config.plan));
  // An ordinary user's comes after enter_user_namespace(), for which a process must have one thread.
  std::unique_ptr<Ahead> ahead;
  if (::geteuid() == 0) ahead = Ahead::start(config.plan);
  FASTDOCK_TRY(Container container, Container::create(context.root, request.id));
  return Creation(context, request, std::move(config), std::move(container), std::move(ahead)).run(text);
}

Result<Config> saved_config(const Container& container) {
  FASTDOCK_TRY(auto document, parse_file(container.config_file()));
  return read_config(std::move(document), container.state.bundle);
}

Result<LaunchPlan> place_in_container(const Container& container, const Config& config) {
  LaunchPlan place;
  FASTDOCK_CHECK(join_namespaces_of(container.state.pid, place));
  if (is_on_host(config)) place.other_root = root_of(container.state.pid);
  place.environment = config.plan.environment;
  place.user = config.plan.user;
  place.capabilities = config.plan.capabilities;
  place.no_new_privileges = config.plan.no_new_privileges;
  place.apparmor_profile = config.plan.apparmor_profile;
  place.selinux_label = config.plan.selinux_label;
  place.oom_score_adjustment = config.plan.oom_score_adjustment;
  // Its program is the image's.  Not where an agent is asked: that is told of the container's process alone.
  if (config.seccomp && !config.seccomp["listenerPath"]) FASTDOCK_CHECK(add_seccomp(config.seccomp, place));
  return place;
}

namespace {

// Its creator was killed before it wrote where the cgroup is.  Without processes: those that are in there may
// be somebody else's.
void remove_unrecorded_cgroup(const Context& context, const Container& container) {
  auto config = saved_config(container);
  auto hierarchies = cgroup::Hierarchies::machine();
  if (!config || !hierarchies) return;
  auto path = cgroup_path(*config, container.state.id);
  if (context.systemd_cgroup) {
    auto place = scope_place(config->cgroups_path, container.state.id);
    if (!place) return;
    path = std::move(place->cgroup);
  }
  if (!path) return;
  if (auto group = cgroup::Cgroup::open(**hierarchies, *path))
    (void)group->remove(std::chrono::milliseconds(0));
}

// Without processes it goes by itself; where systemd cannot be asked, that has to do.
void stop_unit(const Context& context, const Container& container) {
  if (container.state.systemd_unit.empty()) return;
  if (auto stopped = stop_scope(container.state.systemd_unit); !stopped)
    context.warn(message_of(stopped.error()));
}

Result<void> remove_group(const Context& context, const Container& container, const cgroup::Cgroup& group) {
  // Most often nothing runs any more, and to try costs less than to look.
  if (container.state.systemd_unit.empty() && group.remove(std::chrono::milliseconds(0))) return {};
  (void)group.kill_all();
  stop_unit(context, container);
  return group.remove();
}

// What is known of it stays, so that it can be deleted later.  runc's words.
std::unexpected<Error> still_running(pid_t pid) {
  const std::string process = std::to_string(pid);
  return failed_with(EBUSY, Operation::kUseContainer,
                     "container init still running: process " + process +
                         " has not ended after SIGKILL (frozen by another cgroup? see /proc/" + process +
                         "/cgroup); when it has, delete the container again");
}

}  // namespace

Result<void> remove_container(const Context& context, Container& container, const Hooks& hooks) {
  Result<void> result;
  if (container.state.created.empty()) remove_unrecorded_cgroup(context, container);
  if (!container.state.cgroup.empty()) {
    FASTDOCK_TRY(const cgroup::Hierarchies* hierarchies, cgroup::Hierarchies::machine());
    if (auto group = cgroup::Cgroup::open(*hierarchies, container.state.cgroup)) {
      result = remove_group(context, container, *group);
    } else {
      stop_unit(context, container);
    }
  }
  if (!result && container.process_lives()) return still_running(container.state.pid);
  if (auto detached = detach_host_root(container.state); !detached)
    context.warn(message_of(detached.error()));
  FASTDOCK_CHECK(container.remove());
  for (const Hook& hook : hooks.poststop) {
    // runtime.md, "Lifecycle" 13: an error is a warning, and the others run.
    auto ran = run_hooks("poststop", std::span(&hook, 1),
                         state_json(container.state, Status::kStopped, StateFor::kHooks),
                         runtime_place(container.state.bundle));
    if (!ran) context.warn(message_of(ran.error()));
  }
  return result;
}

}  // namespace fastdock::oci
