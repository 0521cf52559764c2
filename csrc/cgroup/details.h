// The figures of a cgroup that only a monitor asks for: what runc's `events` prints beyond Statistics.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace fastdock::cgroup {

// v1 counts memory, memory and swap together, the kernel's and TCP's apart, each in the same four files.
struct MemoryCounter {
  std::uint64_t limit = 0, usage = 0, max = 0, failures = 0;  // bytes; the limit as the kernel shows it
};

struct CpusetDetails {
  std::vector<std::uint16_t> cpus, mems;  // those that can be used now
  std::uint64_t cpu_exclusive = 0, mem_hardwall = 0, mem_exclusive = 0, memory_migrate = 0;
  std::uint64_t memory_spread_page = 0, memory_spread_slab = 0, memory_pressure = 0, sched_load_balance = 0;
  std::int64_t sched_relax_domain_level = 0;
};

// A line of a v1 blkio file: "8:0 Read 4096".
struct BlkioEntry {
  std::uint32_t major = 0, minor = 0;
  std::string operation;  // Read, Write, Sync, Async, Discard, Total
  std::uint64_t value = 0;
};

struct Details {
  std::vector<std::uint64_t> cpu_ns, cpu_kernel_ns,
      cpu_user_ns;  // one each per processor; v1 alone counts so
  std::optional<CpusetDetails> cpuset;
  std::optional<MemoryCounter> memory, memory_and_swap, kernel, kernel_tcp;  // v1
  std::vector<BlkioEntry> blkio_bytes, blkio_operations;                     // v1
};

}  // namespace fastdock::cgroup
