// The procfs and sysfs mounts of this mount namespace, which a container without pivot_root(2) keeps.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace fastdock::rootfs {

// Mount points, the innermost first; what lies at or below `except` is left out.
Result<std::vector<std::string>> bare_mounts(std::string_view except);
// The same of the text of /proc/PID/mountinfo.
std::vector<std::string> parse_bare_mounts(std::string_view mountinfo, std::string_view except);

}  // namespace fastdock::rootfs
