// The tiny init (init/), embedded in the core.
#pragma once

#include <cstddef>
#include <span>

#include "base/error.h"

namespace fastdock::launch {

// Its bytes: a static ELF executable of a few KiB.  argv: any name, the program, its arguments.
std::span<const std::byte> init_program();

// A descriptor of it in sealed memory, for execveat(2); open for the life of the process.
Result<int> init_descriptor();

}  // namespace fastdock::launch
