// create, run, start.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>

#include "base/path.h"
#include "oci/create.h"
#include "oci/hooks.h"
#include "oci/seal.h"
#include "oci/terminal.h"

namespace fastdock::oci {
namespace {

constexpr auto kCreateFlags = std::to_array<Flag>({
    {"bundle", 'b', true, "directory with config.json"},
    {"config", 'f', true, "the file in place of config.json, from the bundle on (as crun has it)"},
    {"console-socket", 0, true, "UNIX socket that receives the terminal"},
    {"pidfd-socket", 0, true, "UNIX socket that receives a pidfd of the process"},
    {"pid-file", 0, true, "file for the process id"},
    {"preserve-fds", 0, true, "how many descriptors from 3 on the container keeps"},
    {"no-pivot", 0, false, "for a root on a RAM disk"},
    {"no-new-keyring", 0, false, "keep the caller's session keyring"},
    {"no-subreaper", 0, false, "accepted"},
    {"detach", 'd', false, "run: do not wait for the end"},
    {"keep", 0, false, "run: leave the container after its end"},
});

Result<std::string> absolute(const std::string& path) {
  char resolved[PATH_MAX];
  if (::realpath(path.c_str(), resolved) == nullptr) return failed(Operation::kOpenFile, path);
  return std::string(resolved);
}

Result<CreateRequest> read_request(Words words, std::string_view name, Arguments& arguments) {
  FASTDOCK_TRY(arguments, parse_flags(kCreateFlags, words, FlagsEnd::kNever, name));
  FASTDOCK_CHECK(expect_arguments(arguments, 1, std::string(name) + " [flags] <container-id>"));
  CreateRequest request;
  request.id = arguments.positional.front();
  FASTDOCK_TRY(request.bundle, absolute(arguments.text("bundle", ".")));
  request.config_file = arguments.text("config", "config.json");
  if (!request.config_file.starts_with('/')) request.config_file.insert(0, request.bundle + "/");
  request.console_socket = arguments.text("console-socket");
  request.pidfd_socket = arguments.text("pidfd-socket");
  request.pid_file = arguments.text("pid-file");
  request.pivot = !arguments.has("no-pivot");
  request.new_keyring = !arguments.has("no-new-keyring");
  FASTDOCK_TRY(auto descriptors, arguments.number("preserve-fds"));
  constexpr std::int64_t kMostDescriptors = 4096;
  if (descriptors && (*descriptors < 0 || *descriptors > kMostDescriptors))
    return failed_with(EINVAL, Operation::kUseContainer, "--preserve-fds is out of range");
  request.preserve_descriptors = static_cast<int>(descriptors.value_or(0));
  return request;
}

// The service's main process is this one, as with runc: its end is the service's.
Beside forwarding(std::optional<NotifySocket>& notify, const Context& context) {
  if (!notify) return {};
  return {notify->descriptor(), [&] {
            auto ready = notify->forward(::getpid());
            if (ready && !*ready) return true;
            if (!ready) context.warn(message_of(ready.error()));
            // Nobody reads any more: the container's further messages fail, instead of filling the queue.
            notify.reset();
            return false;
          }};
}

}  // namespace

Result<int> command_create(const Context& context, Words words) {
  FASTDOCK_CHECK(run_sealed(context.argv));
  Arguments arguments;
  FASTDOCK_TRY(CreateRequest request, read_request(words, "create", arguments));
  FASTDOCK_CHECK(create_container(context, request));
  return 0;
}

Result<int> command_run(const Context& context, Words words) {
  FASTDOCK_CHECK(run_sealed(context.argv));
  Arguments arguments;
  FASTDOCK_TRY(CreateRequest request, read_request(words, "run", arguments));
  request.start = true;
  request.foreground = !arguments.has("detach");
  if (!request.foreground) {
    FASTDOCK_TRY(Created created, create_container(context, request));
    created.container.unlock();
    if (!created.notify) return 0;
    auto told = created.notify->wait_until_ready(created.process.pidfd.get(), created.process.pid);
    // The container runs, and an error would say that it does not.
    if (!told) context.warn(message_of(told.error()));
    return 0;
  }
  Foreground foreground;
  FASTDOCK_TRY(Created created, create_container(context, request));
  // Others may pause, change or delete it meanwhile.
  created.container.unlock();
  auto code = foreground.wait(created.process, forwarding(created.notify, context));
  if (arguments.has("keep") || !created.container.lock()) return code;
  FASTDOCK_CHECK(remove_container(context, created.container, created.hooks));
  return code;
}

Result<int> command_start(const Context& context, Words words) {
  FASTDOCK_TRY(Arguments arguments, parse_flags({}, words, FlagsEnd::kNever, "start"));
  FASTDOCK_CHECK(expect_arguments(arguments, 1, "start <container-id>"));
  FASTDOCK_TRY(Container container, Container::open(context.root, arguments.positional.front()));
  FASTDOCK_CHECK(container.lock());
  Status status = container.status();
  if (status == Status::kStopped)
    return failed_with(ESRCH, Operation::kUseContainer, "cannot start a container that has stopped");
  if (status != Status::kCreated)
    return failed_with(EEXIST, Operation::kUseContainer, "cannot start an already running container");
  FASTDOCK_TRY(Config config, saved_config(container));
  // Before anything is changed: it may execute this program anew.
  if (!config.hooks.start_container.empty() || !config.hooks.poststart.empty())
    FASTDOCK_CHECK(run_sealed(context.argv));
  if (!config.hooks.start_container.empty()) {
    FASTDOCK_TRY(auto place, place_in_container(container, config));
    FASTDOCK_CHECK(run_hooks("startContainer", config.hooks.start_container,
                             state_json(container.state, Status::kCreated, StateFor::kHooks), place));
  }
  std::optional<NotifySocket> notify;
  Fd process;
  if (is_notify_wanted() && has_notify_directory(container)) {
    FASTDOCK_TRY(notify, NotifySocket::open(container));
    FASTDOCK_TRY(process, container.process());
  } else if (is_notify_wanted()) {
    context.warn("NOTIFY_SOCKET is left alone: the container was created without it");
  }
  // ENXIO: the process has just ended.  Removed before the word: who sees no FIFO sees it running.
  FASTDOCK_TRY(Fd fifo, open_file(container.fifo(), O_WRONLY | O_NONBLOCK | O_NOFOLLOW));
  if (::unlink(container.fifo().c_str()) != 0) return failed(Operation::kRemoveFile, container.fifo());
  if (::write(fifo.get(), "0", 1) != 1) return failed(Operation::kWriteFile, container.fifo());
  FASTDOCK_CHECK(run_hooks("poststart", config.hooks.poststart,
                           state_json(container.state, Status::kRunning, StateFor::kHooks),
                           runtime_place(container.state.bundle)));
  // Others may stop or delete it meanwhile.
  container.unlock();
  if (notify) FASTDOCK_CHECK(notify->wait_until_ready(process.get(), container.state.pid));
  return 0;
}

}  // namespace fastdock::oci
