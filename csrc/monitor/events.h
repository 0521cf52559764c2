// The event log: one line of JSON an event, as Docker's API has them, appended by any process.
//
// Nothing is missed between processes: whoever appends holds a shared lock on the very file that the path
// leads to, and whoever moves the full file away an exclusive one.  A reader who follows reads on to the end of
// the file that it has, and then takes the new one.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace fastdock::monitor {

struct Event {
  std::string type;    // container, image, volume, network
  std::string action;  // start, die, "health_status: healthy" …
  std::string id;
  std::vector<std::pair<std::string, std::string>> attributes;
};

inline constexpr std::uint64_t kMaximumEventLog = 8 << 20;

// `directory` holds `events` and, older, `events.1`.
Result<void> append_event(const std::string& directory, const Event& event);

}  // namespace fastdock::monitor
