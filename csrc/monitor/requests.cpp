// What clients of the control socket ask for.
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/path.h"
#include "launch/wire.h"
#include "monitor/exec.h"
#include "monitor/monitor.h"

namespace fastdock::monitor {
namespace {

constexpr off_t kMaximumDescriptorSize = 16 << 20;

Result<std::string> content(const Fd& descriptor) {
  if (!descriptor) return failed_with(EINVAL, Operation::kReceiveDescriptor, "request");
  off_t size = ::lseek(descriptor.get(), 0, SEEK_END);
  if (size < 0 || size > kMaximumDescriptorSize) return failed_with(EINVAL, Operation::kReadFile, "request");
  ::lseek(descriptor.get(), 0, SEEK_SET);
  return read_all(descriptor.get(), "request");
}

}  // namespace

Result<std::optional<int>> Monitor::handle(Client& client, const PacketHeader& header,
                                           std::string_view payload, Fd descriptor) {
  switch (header.kind) {
    case Packet::kAttach:
      client.attached = header.value & (kAttachInput | kAttachOutput | kAttachErrors | kAttachEnd);
      return 0;
    case Packet::kInput:
      return input(payload, false);
    case Packet::kInputEnd:
      return input({}, true);
    case Packet::kResize:
      return resize(static_cast<std::uint32_t>(header.value));
    case Packet::kSignal:
      return signal(header.value);
    case Packet::kStop:
      return stop(&client, header.value, payload);
    case Packet::kWait:
      client.waits = true;
      return std::nullopt;
    case Packet::kPause:
      return freeze(true);
    case Packet::kResume:
      return freeze(false);
    case Packet::kUpdate:
      return update(descriptor);
    case Packet::kExecute:
      return execute(descriptor);
    case Packet::kRename:
      for (auto& [name, value] : request_.attributes)
        if (name == "name") value = payload;
      return 0;
    default:
      break;
  }
  return failed_with(EPROTO, Operation::kParse, "control packet");
}

// A terminal has no end: who detaches from it comes back.
void Monitor::left(const Client& client) {
  if (!request_.plan.terminal && request_.stdin_once && (client.attached & kAttachInput) != 0)
    input_ends_ = true;
}

Result<void> Monitor::need_running() const {
  if (process_) return {};
  return failed_with(ESRCH, Operation::kSignalProcess, request_.id, Hint::kProcessGone);
}

// No answer: input is a stream.  What the program does not read fills its pipe, then our buffer, then the
// client's socket (Clients::add_to).
Result<std::optional<int>> Monitor::input(std::string_view payload, bool end) {
  if (!input_ends_) pending_input_.append(payload);
  if (end && !request_.plan.terminal) input_ends_ = true;
  return std::nullopt;
}

Result<std::optional<int>> Monitor::resize(std::uint32_t size) {
  winsize window{static_cast<unsigned short>(size >> 16), static_cast<unsigned short>(size & 0xFFFF), 0, 0};
  if (request_.plan.terminal && output_) ::ioctl(output_.get(), TIOCSWINSZ, &window);
  return std::nullopt;
}

Result<std::optional<int>> Monitor::signal(int number) {
  FASTDOCK_CHECK(need_running());
  if (number < 1 || number > 64)
    return failed_with(EINVAL, Operation::kSignalProcess, std::to_string(number));
  // As Docker: who kills it, or sends what stop would send, does not want it back.
  if (number == SIGKILL || number == request_.stop_signal) state_.stopped_by_user = true;
  if (state_.status == Status::kPaused && number == SIGKILL) FASTDOCK_CHECK(group_->freeze(false));
  event("kill", {{"signal", std::to_string(number)}});
  FASTDOCK_CHECK(launch::send_signal(*process_, number));
  return 0;
}

Result<std::optional<int>> Monitor::stop(Client* client, int timeout_ms, std::string_view payload) {
  int number = request_.stop_signal;
  if (payload.size() == sizeof number) std::memcpy(&number, payload.data(), sizeof number);
  // Without a client it is SIGTERM: the machine goes down, and unless-stopped containers are to come back.
  (client != nullptr ? state_.stopped_by_user : goes_down_) = true;
  if (client != nullptr) client->stops = true;
  if (!process_) {
    restart_at_ = Clock::now();  // run_timers() sees that it is not to be started again
    return std::nullopt;
  }
  forget_ = timeout_ms == kStopAndForget;
  std::int64_t patience = forget_ ? 0 : timeout_ms == -1 ? request_.stop_timeout : timeout_ms;
  event("kill", {{"signal", std::to_string(number)}});
  (void)launch::send_signal(*process_, patience == 0 ? SIGKILL : number);
  // A frozen program gets no signal.
  if (state_.status == Status::kPaused) (void)freeze(false);
  if (patience >= 0) kill_at_ = Clock::now() + std::chrono::milliseconds(patience);
  return std::nullopt;
}

Result<std::optional<int>> Monitor::freeze(bool frozen) {
  FASTDOCK_CHECK(need_running());
  if (frozen == (state_.status == Status::kPaused))
    return failed_with(EALREADY, Operation::kFreezeCgroup, request_.id);
  FASTDOCK_CHECK(group_->freeze(frozen));
  state_.status = frozen ? Status::kPaused : Status::kRunning;
  if (health_) frozen ? health_->pause() : health_->resume();
  publish();
  event(frozen ? "pause" : "unpause");
  return 0;
}

Result<std::optional<int>> Monitor::update(const Fd& descriptor) {
  FASTDOCK_TRY(std::string bytes, content(descriptor));
  FASTDOCK_TRY(Update wanted, update_from_bytes(bytes));
  if (group_) FASTDOCK_CHECK(group_->update(wanted.limits));
  merge(request_.limits, wanted.limits);
  if (wanted.restart) request_.restart = *wanted.restart;
  if (wanted.network) {
    // For its next start: in this one, whoever tells has done it.
    request_.network = std::move(wanted.network);
  } else {
    event("update");
  }
  return 0;
}

Result<std::optional<int>> Monitor::execute(const Fd& descriptor) {
  FASTDOCK_CHECK(need_running());
  FASTDOCK_TRY(std::string bytes, content(descriptor));
  FASTDOCK_TRY(LaunchPlan plan, launch::from_bytes(bytes));
  FASTDOCK_TRY(Fd null, open_file("/dev/null", O_RDWR));
  plan.stdio = {null.get(), null.get(), null.get()};
  plan.parent_death_signal = SIGKILL;
  std::string command;
  for (const std::string& word : plan.argv) command += ' ' + word;
  FASTDOCK_TRY(auto process, start_in(*group_, process_->pid, std::move(plan)));
  pid_t pid = process.pid;
  std::string id = launch::random_hex(32);
  for (const char* action : {"exec_create:", "exec_start:"}) event(action + command, {{"execID", id}});
  others_.emplace(pid, Other{std::move(process), std::move(id)});
  return pid;
}

}  // namespace fastdock::monitor
