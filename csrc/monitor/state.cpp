#include "monitor/state.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "base/fd.h"
#include "base/path.h"
#include "monitor/json.h"

namespace fastdock::monitor {
namespace {

const char* text(Status status) {
  switch (status) {
    case Status::kRunning:
      return "running";
    case Status::kPaused:
      return "paused";
    case Status::kRestarting:
      return "restarting";
    case Status::kExited:
      break;
  }
  return "exited";
}

std::string time_or_zero(const timespec& time) {
  return time.tv_sec == 0 ? "0001-01-01T00:00:00Z" : time_text(time);  // Go's zero time
}

std::string health_json(const HealthState& health) {
  std::string out = R"({"status":")";
  out += text(health.health);
  out += R"(","failing_streak":)" + std::to_string(health.failing_streak) + R"(,"log":[)";
  for (const ProbeResult& probe : health.log) {
    if (out.back() != '[') out += ',';
    out += R"({"Start":")" + time_text(probe.start) + R"(","End":")" + time_text(probe.end) +
           R"(","ExitCode":)" + std::to_string(probe.exit_code) + R"(,"Output":)";
    append_string(out, probe.output);
    out += '}';
  }
  return out + "]}";
}

}  // namespace

const char* text(Health health) {
  switch (health) {
    case Health::kStarting:
      return "starting";
    case Health::kHealthy:
      return "healthy";
    case Health::kUnhealthy:
      break;
  }
  return "unhealthy";
}

std::string to_json(const State& state) {
  auto truth = [](bool value) { return value ? "true" : "false"; };
  std::string out = R"({"status":")";
  out += text(state.status);
  out += R"(","pid":)" + std::to_string(state.pid);
  out += R"(,"monitor":)" + std::to_string(state.monitor);
  out += R"(,"exit_code":)" + std::to_string(state.exit_code);
  out += R"(,"oom_killed":)";
  out += truth(state.oom_killed);
  out += R"(,"stopped_by_user":)";
  out += truth(state.stopped_by_user);
  out += R"(,"error":)";
  append_string(out, state.error);
  out += R"(,"started_at":")" + time_or_zero(state.started);
  out += R"(","finished_at":")" + time_or_zero(state.finished);
  out += R"(","restart_count":)" + std::to_string(state.restart_count);
  if (state.health) out += R"(,"health":)" + health_json(*state.health);
  return out + "}\n";
}

namespace {

// fsync(2) promises the content alone.  These change the file's own times when it is renamed, in the
// transaction of the name, and commit that with it: ext4_rename() and ext4_sync_file(), xfs_rename() and
// xfs_file_fsync(), btrfs_log_new_name().
bool syncs_name_with_file(int place) {
  struct statfs system{};
  if (::fstatfs(place, &system) != 0) return false;
  return system.f_type == EXT4_SUPER_MAGIC || system.f_type == XFS_SUPER_MAGIC ||
         system.f_type == BTRFS_SUPER_MAGIC;
}

}  // namespace

Result<void> write_state(const std::string& directory, std::string_view json, bool sync) {
  FASTDOCK_TRY(Fd place, open_file(directory, O_RDONLY | O_DIRECTORY));
  {
    FASTDOCK_TRY(Fd file,
                 open_at(place.get(), "state.json.new", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600));
    if (::write(file.get(), json.data(), json.size()) != static_cast<ssize_t>(json.size()))
      return failed(Operation::kWriteFile, directory + "/state.json",
                    errno == ENOSPC ? Hint::kNoSpace : Hint::kNone);
    if (::renameat(place.get(), "state.json.new", place.get(), "state.json") != 0)
      return failed(Operation::kRenameFile, directory + "/state.json");
    // Only now: so the disk is waited for once, not for the content and again for the name.  A power cut
    // before that may leave the name without its content: whoever reads it knows (state.py).
    if (sync && ::fsync(file.get()) != 0) return failed(Operation::kSyncFile, directory + "/state.json");
  }
  if (sync && !syncs_name_with_file(place.get()) && ::fsync(place.get()) != 0)
    return failed(Operation::kSyncFile, directory);
  return {};
}

}  // namespace fastdock::monitor
