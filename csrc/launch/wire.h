// A LaunchPlan as bytes, for the native helper, which is another process.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"
#include "launch/plan.h"

namespace fastdock::launch {

// What bytes begin with that are laid out as this build lays them out.
std::string_view wire_format();
// The bytes after it; EPROTO when it is another's.
Result<std::string_view> of_this_format(std::string_view bytes, std::string_view what);

std::string to_bytes(const LaunchPlan& plan);

// EPROTO when the bytes are another build's, EINVAL when they are damaged.
Result<LaunchPlan> from_bytes(std::string_view bytes);

}  // namespace fastdock::launch
