// OCI's resource values are those of cgroup v1; these are the published conversions to v2.
#pragma once

#include <cstdint>
#include <string>

#include "base/error.h"

namespace fastdock::cgroup {

// cpu.shares (2...262144, default 1024) -> cpu.weight (1...10000, default 100).
std::uint64_t cpu_weight(std::uint64_t shares);

// blkio.weight (10...1000) -> io.weight (1...10000).
std::uint64_t io_weight(std::uint16_t weight);

// "memory and swap together" -> memory.swap.max, swap alone.  -1 is "no limit" for all three.
// EINVAL where the total is less than the memory.
Result<std::int64_t> swap_alone(std::int64_t memory, std::int64_t memory_and_swap);

// The number, or `unlimited` ("max" on v2, "-1" on v1) where it is negative.
std::string number_or(std::int64_t value, const char* unlimited);

}  // namespace fastdock::cgroup
