// exec.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/path.h"
#include "cgroup/cgroup.h"
#include "launch/capabilities.h"
#include "launch/users.h"
#include "oci/create.h"
#include "oci/hooks.h"
#include "oci/host_root.h"
#include "oci/listener.h"
#include "oci/rootless.h"
#include "oci/seal.h"
#include "oci/systemd.h"
#include "oci/terminal.h"

namespace fastdock::oci {
namespace {

using launch::LaunchPlan;

constexpr auto kExecFlags = std::to_array<Flag>({
    {"console-socket", 0, true, "UNIX socket that receives the terminal"},
    {"cwd", 0, true, "working directory"},
    {"env", 'e', true, "NAME=value, in addition to the container's"},
    {"tty", 't', false, "with a terminal"},
    {"user", 'u', true, "uid[:gid]"},
    {"additional-gids", 'g', true, "further group ids"},
    {"process", 'p', true, "file with an OCI process"},
    {"detach", 'd', false, "do not wait for the end"},
    {"pidfd-socket", 0, true, "UNIX socket that receives a pidfd of the process"},
    {"pid-file", 0, true, "file for the process id"},
    {"process-label", 0, true, "SELinux label"},
    {"apparmor", 0, true, "AppArmor profile"},
    {"no-new-privs", 0, false, "as process.noNewPrivileges"},
    {"cap", 'c', true, "a capability to have"},
    {"preserve-fds", 0, true, "how many descriptors from 3 on are kept"},
    {"cgroup", 0, true, "a cgroup below the container's; on v1 also controllers:path, more than once"},
    {"ignore-paused", 0, false, "also in a paused container: it waits"},
});

std::unexpected<Error> refused(const std::string& what) {
  return failed_with(EINVAL, Operation::kUseContainer, what);
}

// "1000" or "1000:100": digits only, as runc takes it.
Result<void> apply_user(const std::string& text, launch::User& user) {
  auto colon = text.find(':');
  std::uint32_t uid = 0;
  std::uint32_t gid = user.gid;
  bool good = launch::parse_id(text.substr(0, colon), uid) == launch::IdSyntax::kNumber;
  if (colon != std::string::npos)
    good = good && launch::parse_id(text.substr(colon + 1), gid) == launch::IdSyntax::kNumber;
  if (!good) return refused("--user must be uid[:gid], not " + text);
  user.uid = uid;
  user.gid = gid;
  return {};
}

Result<void> apply_groups(const std::vector<std::string>& texts, launch::User& user) {
  for (const std::string& text : texts) {
    std::uint32_t gid = 0;
    if (launch::parse_id(text, gid) != launch::IdSyntax::kNumber)
      return refused("--additional-gids must be numbers");
    user.groups.push_back(gid);
  }
  return {};
}

// As runc: to the bounding, effective, permitted and (where others are inheritable) ambient set.
void apply_capabilities(const std::vector<std::string>& names, launch::Capabilities& capabilities,
                        const Context& context) {
  for (const std::string& name : names) {
    auto number = launch::capability_number(name);
    if (!number) {
      context.warn("unknown capability ignored: " + name);
      continue;
    }
    launch::CapabilitySet bit = launch::capability_bit(*number);
    capabilities.bounding |= bit;
    capabilities.effective |= bit;
    capabilities.permitted |= bit;
    if (capabilities.inheritable != 0) capabilities.ambient |= bit;
  }
}

// The process that the container was made with, changed as the flags say.
Result<bool> process_from_flags(const Arguments& arguments, Words rest, const Config& config,
                                LaunchPlan& plan, const Context& context) {
  const LaunchPlan& own = config.plan;
  for (const char* word : rest) plan.argv.emplace_back(word);
  if (plan.argv.empty())
    return refused("usage: fastdock-oci exec [flags] <container-id> <command> [arguments]");
  plan.environment = own.environment;
  for (std::string& variable : arguments.values("env")) plan.environment.push_back(std::move(variable));
  keep_last_of_each_name(plan.environment);
  plan.working_directory = arguments.text("cwd", own.working_directory);
  plan.user = own.user;
  plan.limits = own.limits;
  plan.capabilities = own.capabilities;
  plan.no_new_privileges = own.no_new_privileges || arguments.has("no-new-privs");
  plan.apparmor_profile = arguments.text("apparmor", own.apparmor_profile);
  plan.selinux_label = arguments.text("process-label", own.selinux_label);
  plan.oom_score_adjustment = own.oom_score_adjustment;
  plan.scheduler = own.scheduler;
  plan.io_priority = own.io_priority;
  plan.initial_cpus = own.initial_cpus;
  plan.final_cpus = own.final_cpus;
  if (auto user = arguments.value("user")) FASTDOCK_CHECK(apply_user(*user, plan.user));
  FASTDOCK_CHECK(apply_groups(arguments.values("additional-gids"), plan.user));
  apply_capabilities(arguments.values("cap"), plan.capabilities, context);
  if (!plan.working_directory.starts_with('/')) return refused("--cwd must be an absolute path");
  return arguments.has("tty");
}

Result<bool> process_from_file(const std::string& path, LaunchPlan& plan, const Context& context) {
  FASTDOCK_TRY(auto document, path == "-" ? parse_descriptor(STDIN_FILENO, "process") : parse_file(path));
  bool terminal = false;
  std::vector<std::string> warnings;
  read_process(document->root(), plan, terminal, warnings);
  FASTDOCK_CHECK(document->problem());
  for (const std::string& warning : warnings) context.warn(warning);
  return terminal;
}

// "path" or, on cgroup v1, "controller,controller:path"; the path without slashes in front.
Result<std::pair<std::string, std::string>> read_cgroup(const std::string& word) {
  auto colon = word.find(':');
  std::string controllers = colon == std::string::npos ? "" : word.substr(0, colon);
  std::string path = word.substr(colon == std::string::npos ? 0 : colon + 1);
  path.erase(0, std::min(path.find_first_not_of('/'), path.size()));
  if (path.find("..") != std::string::npos || path.find(':') != std::string::npos || colon == 0)
    return refused("--cgroup: bad sub cgroup path " + word + " (it must be below the container's cgroup)");
  return std::pair(std::move(controllers), std::move(path));
}

// Entered after the container's own, which the process then leaves in the hierarchies of these controllers.
Result<void> join_of_controllers(const std::vector<std::pair<std::string, std::string>>& directories,
                                 const std::string& controllers, const std::string& path,
                                 cgroup::Join& join) {
  for (std::size_t at = 0; at < controllers.size();) {
    std::size_t end = std::min(controllers.find(',', at), controllers.size());
    std::string name = controllers.substr(at, end - at);
    at = end + 1;
    auto found = std::ranges::find(directories, name, [](const auto& entry) { return entry.first; });
    if (name.empty() || found == directories.end())
      return refused("--cgroup: unknown controller " + name + " (or the container has no cgroup of it)");
    auto tasks = open_file(found->second + "/" + path + "/tasks", O_WRONLY);
    if (!tasks) return failed_with(tasks.error().number, Operation::kJoinCgroup, found->second + "/" + path);
    join.tasks.push_back(std::move(*tasks));
  }
  return {};
}

class Execution {
 public:
  Execution(const Context& context, const Arguments& arguments, Container container, Config config)
      : context_(context),
        arguments_(arguments),
        container_(std::move(container)),
        config_(std::move(config)) {}

  Result<int> run(Words rest) {
    const bool detach = arguments_.has("detach");
    FASTDOCK_CHECK(make_plan(rest));
    const std::string socket = arguments_.text("console-socket");
    if (terminal_ && detach && socket.empty())
      return refused("--tty together with --detach needs --console-socket");
    if (!terminal_ && !socket.empty()) return refused("--console-socket is given, but there is no terminal");
    std::optional<Foreground> foreground;
    if (!detach) foreground.emplace();
    FASTDOCK_TRY(auto process, launch::launch(plan_, observer()));
    context_.debug_log("container " + container_.state.id + ": exec is process " +
                       std::to_string(process.pid));
    if (auto told = tell(process, socket); !told) {
      (void)launch::send_signal(process, SIGKILL);
      (void)launch::wait(process, -1);
      return std::unexpected(told.error());
    }
    if (detach) return 0;
    return foreground->wait(process);
  }

 private:
  Result<void> make_plan(Words rest) {
    if (auto file = arguments_.value("process")) {
      FASTDOCK_TRY(terminal_, process_from_file(*file, plan_, context_));
    } else {
      FASTDOCK_TRY(terminal_, process_from_flags(arguments_, rest, config_, plan_, context_));
    }
    if (terminal_ && !plan_.terminal) plan_.terminal.emplace();
    if (plan_.terminal)
      plan_.terminal->plain_newlines = !arguments_.has("detach") && !arguments_.has("console-socket");
    FASTDOCK_CHECK(join_user_namespace_of(container_.state.pid));
    FASTDOCK_CHECK(join_namespaces_of(container_.state.pid, plan_));
    if (is_on_host(config_)) plan_.other_root = root_of(container_.state.pid);
    FASTDOCK_CHECK(join_cgroup());
    FASTDOCK_TRY(auto descriptors, arguments_.number("preserve-fds"));
    plan_.preserve_descriptors = static_cast<int>(std::clamp<std::int64_t>(descriptors.value_or(0), 0, 4096));
    FASTDOCK_CHECK(check_preserved(plan_.preserve_descriptors));
    plan_.personality = config_.plan.personality;
    plan_.memory_policy = config_.plan.memory_policy;
    if (plan_.initial_cpus.empty() && plan_.final_cpus.empty()) plan_.final_cpus = every_cpu();
    FASTDOCK_TRY(listener_, add_seccomp(config_.seccomp, plan_));
    return {};
  }

  Result<void> join_cgroup() {
    if (container_.state.cgroup.empty()) return {};
    std::string path = container_.state.cgroup;
    std::vector<std::pair<std::string, std::string>> of_controllers;
    for (const std::string& word : arguments_.values("cgroup")) {
      FASTDOCK_TRY(auto below, read_cgroup(word));
      if (!below.first.empty()) {
        of_controllers.push_back(std::move(below));
      } else if (!below.second.empty()) {
        path = container_.state.cgroup + "/" + below.second;
      }
    }
    FASTDOCK_TRY(systemd_attaches_, scope_is_out_of_reach(container_.state));
    cgroup_below_ = path.substr(container_.state.cgroup.size());
    FASTDOCK_TRY(const cgroup::Hierarchies* hierarchies, cgroup::Hierarchies::machine());
    auto group = cgroup::Cgroup::open(*hierarchies, path);
    if (!group && arguments_.has("cgroup"))
      return failed_with(group.error().number, Operation::kJoinCgroup, path);
    if (!group) return {};  // made where no cgroup could be made
    FASTDOCK_TRY(join_, group->join());
    for (const auto& [controllers, below] : of_controllers)
      FASTDOCK_CHECK(join_of_controllers(group->directories(), controllers, below, join_));
    for (const Fd& tasks : join_.tasks) plan_.cgroup_tasks.push_back(tasks.get());
    plan_.cgroup_directory = systemd_attaches_ ? -1 : join_.directory.get();
    return {};
  }

  launch::Observer observer() {
    launch::Observer observer;
    if (systemd_attaches_)
      observer.cloned = [this](pid_t pid) {
        return attach_to_scope(container_.state.systemd_unit, cgroup_below_, pid);
      };
    if (!listener_.path.empty())
      observer.listening = [this](pid_t pid, Fd listener) {
        State state = container_.state;
        state.pid = pid;
        return send_listener(listener_, state, listener.get());
      };
    return observer;
  }

  Result<void> tell(launch::Process& process, const std::string& socket) {
    if (process.terminal && !socket.empty()) {
      FASTDOCK_CHECK(send_console(socket, process.terminal.get()));
      process.terminal.reset();
    }
    FASTDOCK_CHECK(send_pidfd(arguments_.text("pidfd-socket"), process, "setns"));
    if (auto file = arguments_.value("pid-file"))
      return write_whole(*file, std::to_string(process.pid), 0644);
    return {};
  }

  const Context& context_;
  const Arguments& arguments_;
  Container container_;
  Config config_;
  LaunchPlan plan_;
  cgroup::Join join_;
  bool systemd_attaches_ = false;
  std::string cgroup_below_;
  SeccompListener listener_;
  bool terminal_ = false;
};

}  // namespace

Result<int> command_exec(const Context& context, Words words) {
  FASTDOCK_CHECK(run_sealed(context.argv));
  auto parsed = parse_flags(kExecFlags, words, FlagsEnd::kFirstPositional, "exec");
  if (!parsed && parsed.error().number != kHelpWanted) {
    // As runc: 255 is for what the container answers, or would have.
    report(context, parsed.error());
    return 1;
  }
  if (!parsed) return std::unexpected(std::move(parsed.error()));
  const Arguments arguments = std::move(*parsed);
  if (words.empty()) return refused("usage: fastdock-oci exec [flags] <container-id> <command> [arguments]");
  FASTDOCK_TRY(Container container, Container::open(context.root, words.front()));
  Status status = container.status();
  if (status == Status::kStopped || status == Status::kCreating)
    return refused("cannot exec in a container that is not running");
  if (status == Status::kPaused && !arguments.has("ignore-paused"))
    return refused("cannot exec in a paused container (use --ignore-paused to override)");
  FASTDOCK_TRY(Config config, saved_config(container));
  Words rest = words.subspan(1);
  if (!rest.empty() && std::string_view(rest.front()) == "--") rest = rest.subspan(1);
  return Execution(context, arguments, std::move(container), std::move(config)).run(rest);
}

}  // namespace fastdock::oci
