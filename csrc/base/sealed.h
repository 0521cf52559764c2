// Programs of our own, run from sealed memory: a container that reaches such a process's /proc/PID/exe
// finds bytes that nobody can change, not a file of the host (CVE-2019-5736).
#pragma once

#include <cstddef>
#include <span>

#include "base/error.h"
#include "base/fd.h"

namespace fastdock {

// A memfd with this content, executable, sealed against every change.  memfd_create(2).
Result<Fd> sealed_memory(const char* name, std::span<const std::byte> content);

}  // namespace fastdock
