// A LaunchPlan as bytes, for the native helper, which is another process.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"
#include "launch/plan.h"

namespace fastdock::launch {

std::string to_bytes(const LaunchPlan& plan);

// EINVAL when the bytes were not written by to_bytes of this very build.
Result<LaunchPlan> from_bytes(std::string_view bytes);

}  // namespace fastdock::launch
