// What a cgroup has used.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace fastdock::cgroup {

inline constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();

// The few figures that each finished container reports; cheap to read.
struct Usage {
  std::uint64_t cpu_ns = 0;
  std::optional<std::uint64_t> memory_peak;  // bytes; v2: kernel 5.19 or later
  std::uint64_t oom_kills = 0;               // processes that the kernel killed for memory
};

struct DeviceIo {
  std::uint32_t major = 0, minor = 0;
  std::uint64_t read_bytes = 0, write_bytes = 0, reads = 0, writes = 0;
};

struct HugetlbUse {
  std::string page_size;
  std::uint64_t current = 0, limit = kNoLimit;  // bytes
  std::uint64_t failures = 0;
};

// Pressure stall information: shares of time in percent, the total in microseconds.
struct PressureLine {
  double avg10 = 0, avg60 = 0, avg300 = 0;
  std::uint64_t total_us = 0;
};
struct Pressure {
  PressureLine some, full;
};

struct Statistics {
  Usage usage;

  std::uint64_t cpu_user_ns = 0, cpu_system_ns = 0;
  // cpu: only counted where a quota is set
  std::uint64_t periods = 0, throttled_periods = 0, throttled_ns = 0;

  // memory, in bytes
  std::uint64_t memory_current = 0, memory_limit = kNoLimit;
  std::uint64_t memory_anon = 0, memory_cache = 0, memory_inactive_file = 0, memory_kernel = 0;
  std::uint64_t swap_current = 0, swap_limit = kNoLimit;  // swap alone, on v1 too
  std::uint64_t memory_limit_hits = 0;  // how often the limit was reached (failcnt, "max" event)
  std::vector<std::pair<std::string, std::uint64_t>> memory_stat;  // the whole of memory.stat

  std::uint64_t pids_current = 0, pids_limit = kNoLimit;

  std::vector<DeviceIo> io;
  std::vector<HugetlbUse> hugetlb;
  std::optional<Pressure> cpu_pressure, memory_pressure, io_pressure;
};

}  // namespace fastdock::cgroup
