// What a cgroup may use: all of the OCI runtime specification's linux.resources, as plain values.
//
// nullopt (or an empty list) leaves a value as it is.  Docker's and OCI's "0 means not given" is for the
// caller to map to nullopt.  Bytes, microseconds and counts as the specification has them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cgroup/controller.h"

namespace fastdock::cgroup {

struct DeviceRule {
  char type = 'a';                            // 'c', 'b', or 'a' for both
  std::optional<std::uint32_t> major, minor;  // nullopt: any
  std::string access = "rwm";                 // read, write, mknod
  bool allow = false;
};

struct DeviceWeight {
  std::uint32_t major = 0, minor = 0;
  std::uint16_t weight = 0;  // 10...1000
};

struct DeviceRate {
  std::uint32_t major = 0, minor = 0;
  std::uint64_t rate = 0;  // bytes or operations per second; 0 removes the limit
};

struct HugetlbLimit {
  std::string page_size;  // "2MB", "1GB": the kernel's own spelling
  std::uint64_t bytes = 0;
};

struct RdmaLimit {
  std::string device;
  std::optional<std::uint32_t> handles, objects;
};

struct NetworkPriority {
  std::string interface;
  std::uint32_t priority = 0;
};

struct Limits {
  std::optional<std::int64_t> memory;              // bytes; -1: none
  std::optional<std::int64_t> memory_swap;         // bytes of memory and swap together; -1: none
  std::optional<std::int64_t> memory_reservation;  // bytes; -1: none (v1 soft limit, v2 memory.low)
  std::optional<std::int64_t> kernel_memory;       // bytes; v1 kernels before 5.16
  std::optional<std::int64_t> kernel_memory_tcp;   // bytes; v1
  std::optional<std::uint64_t> memory_swappiness;  // 0...100; v1
  std::optional<bool> oom_kill_disable;            // v1

  std::optional<std::uint64_t> cpu_shares;              // 2...262144; on v2 converted to cpu.weight
  std::optional<std::int64_t> cpu_quota;                // microseconds per period; -1: none
  std::optional<std::uint64_t> cpu_period;              // microseconds
  std::optional<std::uint64_t> cpu_burst;               // microseconds
  std::optional<std::int64_t> cpu_idle;                 // 0 or 1
  std::optional<std::int64_t> cpu_rt_runtime;           // microseconds; v1
  std::optional<std::uint64_t> cpu_rt_period;           // microseconds; v1
  std::optional<std::string> cpuset_cpus, cpuset_mems;  // "0-2,7"

  std::optional<std::int64_t> pids;  // -1: no limit

  std::optional<std::uint16_t> blkio_weight;  // 10...1000; on v2 converted to io.weight
  std::vector<DeviceWeight> blkio_weight_device;
  std::vector<DeviceRate> blkio_read_bps, blkio_write_bps, blkio_read_iops, blkio_write_iops;

  std::vector<HugetlbLimit> hugetlb;
  std::vector<RdmaLimit> rdma;
  std::optional<std::uint32_t> network_class;       // net_cls.classid; v1
  std::vector<NetworkPriority> network_priorities;  // v1

  std::vector<DeviceRule>
      devices;  // in order, the last that matches decides; what none matches is denied on v2
  std::map<std::string, std::string> unified;  // file -> value; v2 only, written last
};

// The controllers that these limits need.
ControllerSet controllers_of(const Limits& limits);

}  // namespace fastdock::cgroup
