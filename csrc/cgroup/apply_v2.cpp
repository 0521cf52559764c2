// cgroup v2: Documentation/admin-guide/cgroup-v2.rst in the kernel's sources.
#include <algorithm>
#include <cerrno>

#include "base/path.h"
#include "cgroup/apply.h"
#include "cgroup/convert.h"
#include "cgroup/devices.h"
#include "cgroup/statistics.h"

namespace fastdock::cgroup {
namespace {

// v2 takes any memory.max and kills until it is met.  An update shall refuse as v1 does: so reclaim first
// (memory.reclaim, 5.19; its EAGAIN means that it reclaimed less), then look at what is still in use.  A
// kernel without that file decides by itself.
Result<void> make_room(const Files& files, std::uint64_t limit) {
  FASTDOCK_TRY(std::uint64_t current, files.read_number("memory.current"));
  if (current <= limit || !files.has("memory.reclaim")) return {};
  (void)write_file(files.path("memory.reclaim"), std::to_string(current - limit));
  FASTDOCK_TRY(current, files.read_number("memory.current"));
  if (current <= limit) return {};
  return failed_with(EBUSY, Operation::kSetCgroupLimit, "memory.max=" + std::to_string(limit),
                     Hint::kLimitBelowUse);
}

Result<void> set_swap(const Files& files, const Limits& limits, Warnings& warnings) {
  if (!limits.memory_swap) {
    // As runc: taking the limit off memory takes it off swap too.
    if (limits.memory && *limits.memory < 0 && files.has("memory.swap.max"))
      return files.set("memory.swap.max", "max");
    return {};
  }
  if (!files.has("memory.swap.max")) {
    warnings.emplace_back("This kernel does not account for swap: memory is limited without swap");
    return {};
  }
  std::int64_t memory = -1;
  if (limits.memory) {
    memory = *limits.memory;
  } else {
    FASTDOCK_TRY(std::uint64_t current, files.read_number("memory.max"));
    if (current != kNoLimit) memory = static_cast<std::int64_t>(current);
  }
  FASTDOCK_TRY(std::int64_t swap, swap_alone(memory, *limits.memory_swap));
  return files.set("memory.swap.max", number_or(swap, "max"));
}

Result<void> apply_memory_v2(const Files& files, const Limits& limits, Warnings& warnings) {
  FASTDOCK_CHECK(set_swap(files, limits, warnings));
  if (limits.memory) {
    if (*limits.memory >= 0) FASTDOCK_CHECK(make_room(files, static_cast<std::uint64_t>(*limits.memory)));
    FASTDOCK_CHECK(files.set("memory.max", number_or(*limits.memory, "max")));
  }
  if (limits.memory_reservation)
    FASTDOCK_CHECK(files.set("memory.low", number_or(*limits.memory_reservation, "max")));
  auto ignored = [&](bool given, const char* what) {
    if (given) warnings.push_back(std::string("cgroup v2 has no ") + what + ": it is ignored");
  };
  ignored(limits.kernel_memory.has_value(), "kernel memory limit");
  ignored(limits.kernel_memory_tcp.has_value(), "limit of TCP buffers");
  ignored(limits.memory_swappiness.has_value(), "swappiness");
  ignored(limits.oom_kill_disable.value_or(false), "switch for the OOM killer");
  return {};
}

// cpu.max is "QUOTA PERIOD"; a lone quota keeps the period, so a lone period must repeat the quota.
Result<void> set_cpu_max(const Files& files, const Limits& limits) {
  if (!limits.cpu_quota && !limits.cpu_period) return {};
  std::string value;
  if (limits.cpu_quota) {
    value = number_or(*limits.cpu_quota, "max");
  } else {
    FASTDOCK_TRY(value, files.read("cpu.max"));
    value.resize(std::min(value.find(' '), value.size()));
  }
  if (limits.cpu_period) value.append(" ").append(std::to_string(*limits.cpu_period));
  return files.set("cpu.max", value);
}

Result<void> apply_cpu_v2(const Files& files, const Limits& limits) {
  if (limits.cpu_rt_runtime || limits.cpu_rt_period)
    return failed_with(ENOTSUP, Operation::kSetCgroupLimit, "cpu_rt_runtime", Hint::kNotOnThisCgroupVersion);
  if (limits.cpu_idle) FASTDOCK_CHECK(files.set("cpu.idle", std::to_string(*limits.cpu_idle)));
  if (limits.cpu_shares)
    FASTDOCK_CHECK(files.set("cpu.weight", std::to_string(cpu_weight(*limits.cpu_shares))));
  // burst <= quota: lower the burst first, raise it last.
  bool burst_first = false;
  if (limits.cpu_burst) {
    auto current = files.read_number("cpu.max.burst");
    burst_first = current && *limits.cpu_burst <= *current;
  }
  std::string burst = std::to_string(limits.cpu_burst.value_or(0));
  if (burst_first) FASTDOCK_CHECK(files.set("cpu.max.burst", burst));
  FASTDOCK_CHECK(set_cpu_max(files, limits));
  if (limits.cpu_burst && !burst_first) FASTDOCK_CHECK(files.set("cpu.max.burst", burst));
  return {};
}

Result<void> set_rates_v2(const Files& files, const char* key, const std::vector<DeviceRate>& rates) {
  for (const DeviceRate& rate : rates) {
    std::string value = std::string(key) + (rate.rate == 0 ? "max" : std::to_string(rate.rate));
    FASTDOCK_CHECK(files.set_keyed("io.max", device_line(rate.major, rate.minor, value)));
  }
  return {};
}

Result<void> apply_io(const Files& files, const Limits& limits) {
  // BFQ's weight has blkio's range; io.weight (iocost) has its own.
  bool bfq = files.has("io.bfq.weight");
  if (limits.blkio_weight) {
    if (bfq)
      FASTDOCK_CHECK(files.set("io.bfq.weight", std::to_string(*limits.blkio_weight)));
    else
      FASTDOCK_CHECK(files.set("io.weight", std::to_string(io_weight(*limits.blkio_weight))));
  }
  for (const DeviceWeight& weight : limits.blkio_weight_device)
    FASTDOCK_CHECK(
        files.set_keyed(bfq ? "io.bfq.weight" : "io.weight",
                        device_line(weight.major, weight.minor,
                                    std::to_string(bfq ? weight.weight : io_weight(weight.weight)))));
  FASTDOCK_CHECK(set_rates_v2(files, "rbps=", limits.blkio_read_bps));
  FASTDOCK_CHECK(set_rates_v2(files, "wbps=", limits.blkio_write_bps));
  FASTDOCK_CHECK(set_rates_v2(files, "riops=", limits.blkio_read_iops));
  FASTDOCK_CHECK(set_rates_v2(files, "wiops=", limits.blkio_write_iops));
  return {};
}

Result<void> apply_hugetlb_v2(const Files& files, const Limits& limits) {
  for (const HugetlbLimit& limit : limits.hugetlb) {
    std::string prefix = "hugetlb." + limit.page_size;
    std::string bytes = std::to_string(limit.bytes);
    FASTDOCK_CHECK(files.set(prefix + ".max", bytes));
    if (files.has(prefix + ".rsvd.max")) FASTDOCK_CHECK(files.set(prefix + ".rsvd.max", bytes));
  }
  return {};
}

}  // namespace

Result<void> apply_v2(Controller controller, const Files& files, const Limits& limits, Warnings& warnings) {
  switch (controller) {
    case Controller::kMemory:
      return apply_memory_v2(files, limits, warnings);
    case Controller::kCpu:
      return apply_cpu_v2(files, limits);
    case Controller::kCpuset:
      if (limits.cpuset_cpus) FASTDOCK_CHECK(files.set("cpuset.cpus", *limits.cpuset_cpus));
      if (limits.cpuset_mems) FASTDOCK_CHECK(files.set("cpuset.mems", *limits.cpuset_mems));
      return {};
    case Controller::kPids:
      if (limits.pids) return files.set("pids.max", number_or(*limits.pids, "max"));
      return {};
    case Controller::kIo:
      return apply_io(files, limits);
    case Controller::kHugetlb:
      return apply_hugetlb_v2(files, limits);
    case Controller::kDevices:
      return attach_device_program(files.directory(), limits.devices);
    case Controller::kRdma:
      return apply_rdma(files, limits);
    default:
      return {};
  }
}

}  // namespace fastdock::cgroup
