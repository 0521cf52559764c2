#include "oci/hooks.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/path.h"
#include "base/user_namespace.h"
#include "launch/capabilities.h"
#include "launch/launch.h"
#include "oci/context.h"

namespace fastdock::oci {
namespace {

constexpr std::size_t kMostOutput = 2048;  // of a failed hook, in the error

Result<Fd> memory_file(const char* name, std::string_view content) {
  Fd memory(::memfd_create(name, MFD_CLOEXEC));
  if (!memory) return failed(Operation::kCreateFile, name);
  if (::write(memory.get(), content.data(), content.size()) != static_cast<ssize_t>(content.size()) ||
      ::lseek(memory.get(), 0, SEEK_SET) != 0)
    return failed(Operation::kWriteFile, name);
  return memory;
}

std::string beginning_of(const Fd& file) {
  std::string text(kMostOutput, '\0');
  ssize_t count = ::pread(file.get(), text.data(), text.size(), 0);
  text.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

std::unexpected<Error> hook_failed(const Hook& hook, std::string what) {
  return failed_with(EIO, Operation::kUseContainer, hook.path + " " + std::move(what));
}

Result<void> run_hook(const Hook& hook, const std::string& state, const launch::LaunchPlan& place) {
  FASTDOCK_TRY(Fd input, memory_file("hook-state", state));
  FASTDOCK_TRY(Fd output, memory_file("hook-output", ""));
  launch::LaunchPlan plan = place;
  plan.program = hook.path;
  plan.argv = hook.arguments;
  // As runc: without an environment of its own, a hook has its place's.
  if (!hook.environment.empty()) plan.environment = hook.environment;
  plan.stdio = {input.get(), output.get(), output.get()};
  auto started = launch::launch(plan);
  if (!started) return hook_failed(hook, "could not be run: " + describe(started.error()));
  FASTDOCK_TRY(auto ended, launch::wait(*started, hook.timeout ? *hook.timeout * 1000 : -1));
  if (!ended) {
    (void)launch::send_signal(*started, SIGKILL);
    (void)launch::wait(*started, -1);
    return hook_failed(hook, "did not end within " + std::to_string(*hook.timeout) + " s");
  }
  if (ended->code == 0) return {};
  std::string what = "failed with status " + std::to_string(ended->code);
  if (const char* name = ended->code > 128 ? ::sigdescr_np(ended->code - 128) : nullptr; name != nullptr)
    what.append(" (signal: ").append(name).append(")");
  std::string said = beginning_of(output);
  return hook_failed(hook, what + (said.empty() ? "" : ": " + said));
}

}  // namespace

launch::LaunchPlan runtime_place(const std::string& bundle) {
  launch::LaunchPlan plan;
  plan.working_directory = bundle;
  plan.capabilities = {launch::kAllCapabilities, launch::kAllCapabilities, launch::kAllCapabilities, 0, 0};
  if (::geteuid() != 0 && in_initial_user_namespace()) {  // an ordinary user, whom nothing makes more
    plan.user.uid = ::geteuid();
    plan.user.gid = ::getegid();
    plan.capabilities = {launch::kAllCapabilities, 0, 0, 0, 0};
  }
  plan.new_keyring = false;
  for (char** variable = environ; *variable != nullptr; ++variable) plan.environment.emplace_back(*variable);
  return plan;
}

Result<void> join_namespaces_of(pid_t pid, launch::LaunchPlan& plan) {
  constexpr std::array<const char*, static_cast<std::size_t>(launch::Namespace::kCount_)> kFiles = {
      "user", "mnt", "uts", "ipc", "net", "cgroup", "time", "pid"};
  for (std::size_t index = 0; index < kFiles.size(); ++index) {
    std::string path = "/proc/" + std::to_string(pid) + "/ns/" + kFiles[index];
    struct stat theirs{};
    struct stat ours{};
    if (::stat(path.c_str(), &theirs) != 0) {
      // A kernel without time namespaces has no such file, for us neither.
      if (errno == ENOENT && ::access((std::string("/proc/self/ns/") + kFiles[index]).c_str(), F_OK) != 0)
        continue;
      return failed(Operation::kOpenNamespace, path);
    }
    bool same = ::stat((std::string("/proc/self/ns/") + kFiles[index]).c_str(), &ours) == 0 &&
                ours.st_ino == theirs.st_ino && ours.st_dev == theirs.st_dev;
    if (!same) plan.namespaces[index] = {launch::NamespaceMode::kJoin, std::move(path)};
  }
  return {};
}

Result<void> run_hooks(std::string_view kind, std::span<const Hook> hooks, const std::string& state,
                       const launch::LaunchPlan& place) {
  for (std::size_t index = 0; index < hooks.size(); ++index) {
    auto ran = run_hook(hooks[index], state, place);
    if (ran) continue;
    // In runc's words: callers look for them.
    Error error = std::move(ran.error());
    error.path =
        "error running " + std::string(kind) + " hook #" + std::to_string(index) + ": " + message_of(error);
    error.operation = Operation::kUseContainer;
    return std::unexpected(std::move(error));
  }
  return {};
}

}  // namespace fastdock::oci
