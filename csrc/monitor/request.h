// What the engine asks a monitor for: one container, as plain values.
//
// Like a LaunchPlan it is made by the policy above and carried out below; the monitor looks nothing up.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "cgroup/limits.h"
#include "launch/plan.h"
#include "launch/session.h"
#include "net/attach.h"

namespace fastdock::monitor {

using launch::LaunchPlan;
using launch::Places;

enum class RestartPolicy : std::uint8_t { kNo, kOnFailure, kAlways, kUnlessStopped };

struct Restart {
  RestartPolicy policy = RestartPolicy::kNo;
  std::uint32_t maximum = 0;  // kOnFailure: this many in a row; 0: without limit
};

enum class LogDriver : std::uint8_t { kJsonFile, kLocal, kNone };

struct LogOptions {
  LogDriver driver = LogDriver::kJsonFile;
  std::string path;                       // the newest file; older ones are path.1, path.2 …
  std::uint64_t maximum_size = 10 << 20;  // bytes of a file, about; 0: no rotation
  std::uint32_t maximum_files = 3;
  bool compress = false;  // rotated files, with gzip
};

// Docker's HEALTHCHECK.  Times are milliseconds.
struct HealthCheck {
  LaunchPlan probe;  // what runs in the container; its namespaces and cgroup are filled in
  std::int64_t interval = 30'000, timeout = 30'000, start_period = 0, start_interval = 5'000;
  std::uint32_t retries = 3;
};

struct Request {
  Places places;
  std::string id;
  std::vector<std::pair<std::string, std::string>> attributes;  // of its events: image, name, labels
  LaunchPlan plan;
  cgroup::Limits limits;
  Restart restart;
  LogOptions log;
  std::optional<HealthCheck> health;
  std::optional<net::AttachPlan> network;                  // attached at each start, detached at each end
  std::vector<std::pair<std::string, std::string>> files;  // name, text: the run directory's, for binds
  std::string network_of;  // a file of another container's network namespace, in which this one is born
  int stop_signal = 15;
  std::int64_t stop_timeout = 10'000;  // milliseconds until SIGKILL; -1: never
  bool open_stdin = false;             // a pipe instead of /dev/null
  bool stdin_once = false;             // closed when the first attached client leaves
  bool remove = false;                 // --rm: its directory goes with it
  int ids = -1;                        // the number of its id range (launch/ids.h), given back on removal
};

std::string to_bytes(const Request& request);
// EPROTO when the bytes are another build's, EINVAL when they are damaged.
Result<Request> from_bytes(std::string_view bytes);

// What `update` changes in a running container.
struct Update {
  cgroup::Limits limits;
  std::optional<Restart> restart;
  std::optional<net::AttachPlan> network;  // it has joined one, left one, or is called differently there
};
// What `changes` gives replaces what `limits` has.
void merge(cgroup::Limits& limits, const cgroup::Limits& changes);
std::string to_bytes(const Update& update);
Result<Update> update_from_bytes(std::string_view bytes);

}  // namespace fastdock::monitor
