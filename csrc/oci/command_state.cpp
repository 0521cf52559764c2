// state, list, kill, delete, pause, resume.
#include <fcntl.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "base/directory_stream.h"
#include "cgroup/cgroup.h"
#include "oci/create.h"
#include "oci/seal.h"

namespace fastdock::oci {
namespace {

Result<cgroup::Cgroup> cgroup_of(const Container& container) {
  FASTDOCK_TRY(const cgroup::Hierarchies* hierarchies, cgroup::Hierarchies::machine());
  if (container.state.cgroup.empty())
    return failed_with(ENOENT, Operation::kUseContainer, "the container has no cgroup");
  return cgroup::Cgroup::open(*hierarchies, container.state.cgroup);
}

// "KILL", "SIGKILL", "9", "RTMIN+1".
std::optional<int> parse_signal(std::string_view word) {
  int number = 0;
  auto [end, problem] = std::from_chars(word.data(), word.data() + word.size(), number);
  if (problem == std::errc{} && end == word.data() + word.size())
    return number >= 0 && number <= 64 ? std::optional(number) : std::nullopt;
  std::string name(word);
  for (char& c : name)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  if (name.starts_with("SIG")) name.erase(0, 3);
  if (name.starts_with("RTMIN+") || name.starts_with("RTMAX-")) {
    auto offset = parse_signal(std::string_view(name).substr(6));
    if (!offset || *offset > 30) return std::nullopt;
    return name.starts_with("RTMIN") ? 34 + *offset : 64 - *offset;
  }
  if (name == "RTMIN") return 34;
  if (name == "RTMAX") return 64;
  for (int candidate = 1; candidate < 32; ++candidate)
    if (const char* abbreviation = ::sigabbrev_np(candidate); abbreviation != nullptr && name == abbreviation)
      return candidate;
  if (name == "IOT") return SIGABRT;
  if (name == "CLD") return SIGCHLD;
  if (name == "POLL") return SIGIO;
  return std::nullopt;
}

Result<void> signal_all(const Container& container, int number) {
  FASTDOCK_TRY(auto group, cgroup_of(container));
  FASTDOCK_TRY(auto processes, group.processes());
  for (pid_t pid : processes) ::kill(pid, number);
  return {};
}

bool shares_pids(const Container& container) {
  auto config = saved_config(container);
  return config && config->plan.namespaces[static_cast<std::size_t>(launch::Namespace::kPid)].mode !=
                       launch::NamespaceMode::kNew;
}

Result<void> kill_all(const Container& container) {
  auto group = cgroup_of(container);
  // Of one that could not be made, or that is gone, only the process is known.
  if (!group || group->is_nowhere()) {
    FASTDOCK_TRY(Fd process, container.process());
    if (::syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, 0) == 0) return {};
    return failed(Operation::kSignalProcess, container.state.id);
  }
  FASTDOCK_TRY(auto processes, group->processes());
  if (processes.empty()) return failed_with(ESRCH, Operation::kUseContainer, "container not running");
  return group->kill_all();
}

std::vector<std::string> ids_in(const std::string& root) {
  std::vector<std::string> ids;
  DirectoryStream stream(::opendir(root.c_str()));
  if (!stream) return ids;
  while (const dirent* entry = ::readdir(stream.get()))
    if (entry->d_type == DT_DIR && check_id(entry->d_name)) ids.emplace_back(entry->d_name);
  std::ranges::sort(ids);
  return ids;
}

Result<Container> open_locked(const Context& context, Words words, std::string_view name) {
  FASTDOCK_TRY(Arguments arguments, parse_flags({}, words, FlagsEnd::kNever, name));
  FASTDOCK_CHECK(expect_arguments(arguments, 1, std::string(name) + " <container-id>"));
  FASTDOCK_TRY(Container container, Container::open(context.root, arguments.positional.front()));
  FASTDOCK_CHECK(container.lock());
  return container;
}

Result<int> freeze(const Context& context, Words words, bool frozen) {
  FASTDOCK_TRY(Container container, open_locked(context, words, frozen ? "pause" : "resume"));
  Status status = container.status();
  Status wanted = frozen ? Status::kRunning : Status::kPaused;
  if (status != wanted && !(frozen && status == Status::kCreated))
    return failed_with(EINVAL, Operation::kUseContainer,
                       frozen ? "container not running" : "container not paused");
  FASTDOCK_TRY(auto group, cgroup_of(container));
  FASTDOCK_CHECK(group.freeze(frozen));
  return 0;
}

// What flags there are does not matter, but for the one that asks for help.
Result<int> no_criu(Words words, std::string_view name) {
  for (char* const& word : words)
    if (std::string_view(word) == "-h" || std::string_view(word) == "--help") {
      Words help(&word, 1);
      FASTDOCK_CHECK(parse_flags({}, help, FlagsEnd::kNever, name));
    }
  return failed_with(ENOTSUP, Operation::kUseContainer, "fastdock-oci has no checkpoint and restore");
}

}  // namespace

Result<int> command_state(const Context& context, Words words) {
  FASTDOCK_TRY(Arguments arguments, parse_flags({}, words, FlagsEnd::kNever, "state"));
  FASTDOCK_CHECK(expect_arguments(arguments, 1, "state <container-id>"));
  FASTDOCK_TRY(Container container, Container::open(context.root, arguments.positional.front()));
  FASTDOCK_CHECK(print(state_json(container.state, container.status(), StateFor::kState) + "\n"));
  return 0;
}

Result<int> command_list(const Context& context, Words words) {
  constexpr auto kFlags =
      std::to_array<Flag>({{"format", 'f', true, "table or json"}, {"quiet", 'q', false, "ids only"}});
  FASTDOCK_TRY(Arguments arguments, parse_flags(kFlags, words, FlagsEnd::kNever, "list"));
  FASTDOCK_CHECK(expect_arguments(arguments, 0, "list [--format table|json] [--quiet]"));
  std::string format = arguments.text("format", "table");
  if (format != "table" && format != "json")
    return failed_with(EINVAL, Operation::kUseContainer, "--format must be table or json");
  // As runc: the usual place may not be there yet; one that was named must be.
  if (context.root != kDefaultRoot && ::access(context.root.c_str(), F_OK) != 0)
    return failed(Operation::kListDirectory, context.root);
  std::string ids;
  std::string json = "[";
  std::vector<std::array<std::string, 6>> rows = {{"ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"}};
  for (const std::string& id : ids_in(context.root)) {
    auto container = Container::open(context.root, id);
    if (!container) continue;  // being made, or being removed
    const State& state = container->state;
    Status status = container->status();
    ids += id + "\n";
    json += (json.size() > 1 ? "," : "") + state_json(state, status, StateFor::kList);
    rows.push_back({id, std::to_string(status == Status::kStopped ? 0 : state.pid),
                    std::string(name_of(status)), state.bundle, state.created, state.owner});
  }
  if (arguments.has("quiet")) {
    FASTDOCK_CHECK(print(ids));
    return 0;
  }
  if (format == "json") {
    FASTDOCK_CHECK(print((rows.size() == 1 ? "null" : json + "]") + "\n"));
    return 0;
  }
  std::array<std::size_t, 6> widths{};
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  std::string table;
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i)
      table.append(row[i]).append(widths[i] - row[i].size() + 3, ' ');
    table.erase(table.find_last_not_of(' ') + 1);
    table += '\n';
  }
  FASTDOCK_CHECK(print(table));
  return 0;
}

Result<int> command_kill(const Context& context, Words words) {
  constexpr auto kFlags = std::to_array<Flag>({{"all", 'a', false, "all processes of the container"}});
  FASTDOCK_TRY(Arguments arguments, parse_flags(kFlags, words, FlagsEnd::kNever, "kill"));
  if (arguments.positional.size() != 2) {
    FASTDOCK_CHECK(expect_arguments(arguments, 1, "kill [--all] <container-id> [signal]"));
    arguments.positional.emplace_back("TERM");
  }
  auto number = parse_signal(arguments.positional[1]);
  if (!number)
    return failed_with(EINVAL, Operation::kUseContainer, "unknown signal " + arguments.positional[1]);
  FASTDOCK_TRY(Container container, Container::open(context.root, arguments.positional.front()));
  if (arguments.has("all")) {
    FASTDOCK_CHECK(signal_all(container, *number));
    return 0;
  }
  // Without a PID namespace of the container's own nothing ends its other processes with the first one:
  // SIGKILL is for them all, also when the first has ended (runc does the same).
  if (*number == SIGKILL && shares_pids(container)) {
    FASTDOCK_CHECK(kill_all(container));
    return 0;
  }
  FASTDOCK_TRY(Fd process, container.process());
  if (::syscall(SYS_pidfd_send_signal, process.get(), *number, nullptr, 0) != 0) {
    if (errno == ESRCH) return failed_with(ESRCH, Operation::kUseContainer, "container not running");
    return failed(Operation::kSignalProcess, container.state.id);
  }
  // A frozen process dies on v1 only when it is thawed (runc's kill does the same).
  if (*number == SIGKILL && container.status() == Status::kPaused) {
    FASTDOCK_TRY(auto group, cgroup_of(container));
    FASTDOCK_CHECK(group.freeze(false));
  }
  return 0;
}

Result<int> command_delete(const Context& context, Words words) {
  constexpr auto kFlags =
      std::to_array<Flag>({{"force", 'f', false, "kill it first; one that is not there is no error"}});
  FASTDOCK_TRY(Arguments arguments, parse_flags(kFlags, words, FlagsEnd::kNever, "delete"));
  FASTDOCK_CHECK(expect_arguments(arguments, 1, "delete [--force] <container-id>"));
  const bool force = arguments.has("force");
  const std::string& id = arguments.positional.front();
  auto container = Container::open(context.root, id);
  if (!container && force && check_id(id)) {
    auto damaged = Container::open_damaged(context.root, id);
    if (!damaged && damaged.error().number == ENOENT) return 0;
    container = std::move(damaged);
  }
  if (!container) return std::unexpected(container.error());
  FASTDOCK_CHECK(container->lock());
  Hooks hooks;
  if (auto config = saved_config(*container)) hooks = std::move(config->hooks);
  // Before anything is changed: it may execute this program anew.
  if (!hooks.poststop.empty()) FASTDOCK_CHECK(run_sealed(context.argv));
  Status status = container->status();
  if (!force && status != Status::kStopped && status != Status::kCreated)
    return failed_with(
        EBUSY, Operation::kUseContainer,
        "cannot delete container " + id + " that is not stopped: " + std::string(name_of(status)));
  if (auto process = container->process()) {
    ::syscall(SYS_pidfd_send_signal, process->get(), SIGKILL, nullptr, 0);
    if (status == Status::kPaused)
      if (auto group = cgroup_of(*container)) (void)group->freeze(false);
  }
  FASTDOCK_CHECK(remove_container(context, *container, hooks));
  return 0;
}

Result<int> command_pause(const Context& context, Words words) { return freeze(context, words, true); }
Result<int> command_resume(const Context& context, Words words) { return freeze(context, words, false); }

Result<int> command_checkpoint(const Context&, Words words) { return no_criu(words, "checkpoint"); }
Result<int> command_restore(const Context&, Words words) { return no_criu(words, "restore"); }

}  // namespace fastdock::oci
