// fastdock-oci: the OCI runtime command line (the interface is runc's and crun's).
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <string>

#include "base/path.h"
#include "base/user_namespace.h"
#include "oci/config.h"
#include "oci/context.h"

namespace fastdock::oci {
namespace {

constexpr auto kGlobalFlags = std::to_array<Flag>({
    {"root", 0, true,
     "directory for the state of containers (default "
     "/run/fastdock-oci"
     ")"},
    {"log", 0, true, "file for errors and warnings"},
    {"log-format", 0, true, "text (the default) or json"},
    {"debug", 0, false, "more in the log"},
    {"systemd-cgroup", 0, false, "have systemd make cgroups; cgroupsPath is slice:prefix:name"},
    {"cgroup-manager", 0, true, "cgroupfs or systemd (as crun has it)"},
    {"rootless", 0, true, "true, false or auto: cgroups that cannot be made are done without"},
    {"criu", 0, true, "ignored"},
    {"help", 'h', false, "this text"},
    {"version", 'v', false, "print the version"},
});

constexpr auto kCommands = std::to_array<Command>({
    {"checkpoint", command_checkpoint, "not supported"},
    {"create", command_create, "create a container from a bundle; it waits for start"},
    {"delete", command_delete, "remove what a container leaves"},
    {"events", command_events, "print statistics and out-of-memory events"},
    {"exec", command_exec, "run a program in a container", 255},
    {"features", command_features, "print what this runtime can do, as JSON"},
    {"kill", command_kill, "send a signal to a container's first process"},
    {"list", command_list, "list the containers"},
    {"pause", command_pause, "suspend all processes of a container"},
    {"ps", command_ps, "list the processes of a container"},
    {"restore", command_restore, "not supported"},
    {"resume", command_resume, "let a paused container go on"},
    {"run", command_run, "create and start a container"},
    {"spec", command_spec, "write a config.json to start from"},
    {"start", command_start, "execute the program of a created container"},
    {"state", command_state, "print the state of a container, as JSON"},
    {"update", command_update, "change the limits of a container"},
});

std::string help() {
  std::string text =
      "NAME:\n   fastdock-oci - Open Container Initiative runtime\n\n"
      "USAGE:\n   fastdock-oci [global flags] command [flags] [arguments]\n\nCOMMANDS:\n";
  auto line = [&](std::string_view name, std::string_view what) {
    text.append("  ")
        .append(name)
        .append(16 - std::min<std::size_t>(name.size(), 15), ' ')
        .append(what)
        .append("\n");
  };
  for (const Command& command : kCommands) line(command.name, command.help);
  text += "\nGLOBAL FLAGS:\n";
  for (const Flag& flag : kGlobalFlags) line("--" + std::string(flag.name), flag.help);
  return text;
}

std::string version() {
  return std::string("fastdock-oci version " FASTDOCK_VERSION "\nspec: ") + kSpecificationVersion + "\n";
}

// runc's rule (shouldHonorXDGRuntimeDir): an ordinary user, also where podman has made it root of a
// namespace.
bool has_own_place() {
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  if (runtime == nullptr || *runtime != '/') return false;
  if (::geteuid() != 0) return true;
  const char* user = std::getenv("USER");
  return !in_initial_user_namespace() && (user == nullptr || std::string_view(user) != "root");
}

Result<Context> read_context(const Arguments& arguments, char** argv) {
  Context context;
  context.argv = argv;
  if (has_own_place()) context.root = std::string(std::getenv("XDG_RUNTIME_DIR")) + "/fastdock-oci";
  context.root = arguments.text("root", context.root);
  std::string format = arguments.text("log-format", "text");
  context.log_json = format == "json";
  context.debug = arguments.has("debug");
  context.systemd_cgroup = arguments.has("systemd-cgroup") || arguments.text("cgroup-manager") == "systemd";
  if (auto word = arguments.text("rootless", "auto"); word != "auto") {
    context.rootless = parse_truth(word);
    if (!context.rootless)
      return failed_with(EINVAL, Operation::kUseContainer,
                         "--rootless must be true, false or auto, not \"" + word + "\"");
  }
  if (format != "json" && format != "text")
    return failed_with(EINVAL, Operation::kUseContainer, "--log-format must be text or json");
  if (!context.root.starts_with('/')) {
    FASTDOCK_TRY(std::string here, current_directory());
    context.root = here + "/" + context.root;
  }
  return context;
}

// As runc: before the command is looked at, so that nothing happens without the log that was asked for.
Result<void> open_log(const Arguments& arguments, Context& context) {
  const std::string path = arguments.text("log");
  if (path.empty()) return {};
  FASTDOCK_TRY(context.log_file, open_file(path, O_WRONLY | O_CREAT | O_APPEND, 0644));
  return {};
}

int report(const Context& context, const Error& error, int code) {
  report(context, error);
  return code;
}

int run(int argc, char** argv) {
  Words words(argv + 1, static_cast<std::size_t>(argc > 0 ? argc - 1 : 0));
  auto arguments = parse_flags(kGlobalFlags, words, FlagsEnd::kFirstPositional, "");
  if (!arguments) return report(Context{}, arguments.error(), 1);
  auto context = read_context(*arguments, argv);
  if (!context) return report(Context{}, context.error(), 1);
  if (arguments->has("version")) return print(version()) ? 0 : 1;
  if (arguments->has("help") || words.empty() || std::string_view(words.front()) == "help")
    return print(help()) ? 0 : 1;
  if (auto opened = open_log(*arguments, *context); !opened) return report(*context, opened.error(), 1);
  const std::string_view name = words.front();
  for (const Command& command : kCommands) {
    if (command.name != name) continue;
    context->debug_log("fastdock-oci " + std::string(name) + ", version " FASTDOCK_VERSION);
    auto done = command.run(*context, words.subspan(1));
    if (!done && done.error().number == kHelpWanted && done.error().operation == Operation::kUseContainer)
      return print(done.error().path) ? 0 : 1;
    if (done)
      context->debug_log("fastdock-oci " + std::string(name) + ": exit code " + std::to_string(*done));
    return done ? *done : report(*context, done.error(), command.exit_code_of_errors);
  }
  Error unknown{EINVAL, Operation::kUseContainer,
                "No help topic for '" + std::string(name) + "': there is no such command", Hint::kNone};
  constexpr int kUnknownCommand = 3;  // urfave/cli's, and so runc's
  return report(*context, unknown, kUnknownCommand);
}

}  // namespace
}  // namespace fastdock::oci

int main(int argc, char** argv) { return fastdock::oci::run(argc, argv); }
