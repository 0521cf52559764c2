// What a container is doing, as a small JSON file that anybody may read at any time.
//
// While a monitor lives, RUN/containers/ID/state.json says it.  Its durable twin STATE/containers/ID/state.json
// is written when the program starts (so that a reboot is noticed) and, synced to the disk, when it has ended:
// before anybody is told.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <ctime>
#include <deque>
#include <optional>
#include <string>

#include "base/error.h"

namespace fastdock::monitor {

enum class Status : std::uint8_t { kRunning, kPaused, kRestarting, kExited };

struct ProbeResult {
  timespec start{}, end{};
  int exit_code = 0;
  std::string output;
};

enum class Health : std::uint8_t { kStarting, kHealthy, kUnhealthy };
const char* text(Health health);

struct HealthState {
  Health health = Health::kStarting;
  int failing_streak = 0;
  std::deque<ProbeResult> log;  // the last five
};

struct State {
  Status status = Status::kRunning;
  pid_t pid = 0;
  pid_t monitor = 0;
  int exit_code = 0;
  bool oom_killed = false;
  bool stopped_by_user = false;
  std::string error;
  timespec started{}, finished{};
  int restart_count = 0;
  std::optional<HealthState> health;
};

std::string to_json(const State& state);

// Replaces the file by rename(2); `sync`: and returns when file and name are on the disk.
Result<void> write_state(const std::string& directory, std::string_view json, bool sync);

}  // namespace fastdock::monitor
