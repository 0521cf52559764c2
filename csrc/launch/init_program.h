// The tiny init (init/), embedded in the core.
#pragma once

#include "base/error.h"

namespace fastdock::launch {

// A descriptor of it in sealed memory, for execveat(2); open for the life of the process.
Result<int> init_descriptor();

}  // namespace fastdock::launch
