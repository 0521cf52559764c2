// The bytes of the init program (init.cpp), to be run from a sealed memfd with execveat(2).
#pragma once

#include <cstddef>
#include <span>

namespace fastdock::launch {

// A static ELF executable of a few KiB.  argv: any name, the program, its arguments.
std::span<const std::byte> init_program();

}  // namespace fastdock::launch
