// cgroup v1: Documentation/admin-guide/cgroup-v1 in the kernel's sources.
#include <cerrno>

#include "cgroup/apply.h"
#include "cgroup/convert.h"
#include "cgroup/devices.h"
#include "cgroup/statistics.h"

namespace fastdock::cgroup {
namespace {

constexpr char kMemory[] = "memory.limit_in_bytes";
constexpr char kMemoryAndSwap[] = "memory.memsw.limit_in_bytes";

// The kernel refuses (EINVAL), at every moment, memory above memory-and-swap.  Lowering and the limits of a
// new cgroup take memory first; where that is refused, the other limit has to be raised before it.
Result<void> set_memory_and_swap(const Files& files, std::int64_t memory, std::int64_t memory_and_swap) {
  auto first = files.set(kMemory, number_or(memory, "-1"));
  if (!first && first.error().number != EINVAL) return first;
  FASTDOCK_CHECK(files.set(kMemoryAndSwap, number_or(memory_and_swap, "-1")));
  if (!first) return files.set(kMemory, number_or(memory, "-1"));
  return {};
}

Result<void> set_memory_alone(const Files& files, std::int64_t memory) {
  auto written = files.set(kMemory, number_or(memory, "-1"));
  if (!written && written.error().number == EINVAL && files.has(kMemoryAndSwap))
    written.error().hint = Hint::kSwapBelowMemory;
  return written;
}

Result<void> apply_memory_limit(const Files& files, const Limits& limits, Warnings& warnings) {
  auto swap = limits.memory_swap;
  // As runc: taking the limit off memory takes it off swap too, or the kernel would refuse.
  if (limits.memory && *limits.memory < 0 && !swap) swap = -1;
  if (swap && !files.has(kMemoryAndSwap)) {
    // swapaccount=0; Docker warns with these words and goes on.
    if (limits.memory_swap)
      warnings.emplace_back("This kernel does not account for swap: memory is limited without swap");
    swap.reset();
  }
  if (limits.memory && swap) return set_memory_and_swap(files, *limits.memory, *swap);
  if (limits.memory) return set_memory_alone(files, *limits.memory);
  if (swap) {
    auto written = files.set(kMemoryAndSwap, number_or(*swap, "-1"));
    if (!written && written.error().number == EINVAL) written.error().hint = Hint::kSwapBelowMemory;
    return written;
  }
  return {};
}

// A value that newer kernels no longer know: a warning, not an error, as in Docker.
Result<void> set_or_warn(const Files& files, const char* file, const std::string& value, const char* what,
                         Warnings& warnings) {
  auto written = files.set(file, value);
  if (written || (written.error().number != ENOENT && written.error().number != EOPNOTSUPP)) return written;
  warnings.push_back(std::string("This kernel has no ") + what + ": it is ignored");
  return {};
}

Result<void> apply_memory_v1(const Files& files, const Limits& limits, Warnings& warnings) {
  FASTDOCK_CHECK(apply_memory_limit(files, limits, warnings));
  if (limits.memory_reservation)
    FASTDOCK_CHECK(files.set("memory.soft_limit_in_bytes", number_or(*limits.memory_reservation, "-1")));
  if (limits.kernel_memory)
    FASTDOCK_CHECK(set_or_warn(files, "memory.kmem.limit_in_bytes", number_or(*limits.kernel_memory, "-1"),
                               "kernel memory limit", warnings));
  if (limits.kernel_memory_tcp)
    FASTDOCK_CHECK(set_or_warn(files, "memory.kmem.tcp.limit_in_bytes",
                               number_or(*limits.kernel_memory_tcp, "-1"), "limit of TCP buffers", warnings));
  if (limits.memory_swappiness)
    FASTDOCK_CHECK(set_or_warn(files, "memory.swappiness", std::to_string(*limits.memory_swappiness),
                               "swappiness", warnings));
  if (limits.oom_kill_disable)
    FASTDOCK_CHECK(set_or_warn(files, "memory.oom_control", *limits.oom_kill_disable ? "1" : "0",
                               "switch for the OOM killer", warnings));
  return {};
}

// The kernel checks quota against period and burst at each write, so the order depends on the direction:
// where one order is refused, the other is tried.
Result<void> set_bandwidth(const Files& files, const Limits& limits) {
  auto set_period = [&]() -> Result<void> {
    if (!limits.cpu_period) return {};
    return files.set("cpu.cfs_period_us", std::to_string(*limits.cpu_period));
  };
  auto set_quota = [&]() -> Result<void> {
    if (!limits.cpu_quota) return {};
    return files.set("cpu.cfs_quota_us", number_or(*limits.cpu_quota, "-1"));
  };
  auto set_burst = [&]() -> Result<void> {
    if (!limits.cpu_burst) return {};
    return files.set("cpu.cfs_burst_us", std::to_string(*limits.cpu_burst));
  };
  // burst <= quota: lower the burst first, raise it last.
  bool burst_first = false;
  if (limits.cpu_burst && *limits.cpu_burst > 0) {
    FASTDOCK_TRY(std::uint64_t current, files.read_number("cpu.cfs_burst_us"));
    burst_first = *limits.cpu_burst < current;
  } else if (limits.cpu_burst) {
    burst_first = true;
  }
  if (burst_first) FASTDOCK_CHECK(set_burst());
  auto period = set_period();
  if (!period && (period.error().number != EINVAL || !limits.cpu_quota)) return period;
  FASTDOCK_CHECK(set_quota());
  if (!period) FASTDOCK_CHECK(set_period());
  if (!burst_first) FASTDOCK_CHECK(set_burst());
  return {};
}

Result<void> apply_cpu_v1(const Files& files, const Limits& limits) {
  // While cpu.idle is 1 the kernel refuses shares.
  if (limits.cpu_idle) FASTDOCK_CHECK(files.set("cpu.idle", std::to_string(*limits.cpu_idle)));
  if (limits.cpu_shares) FASTDOCK_CHECK(files.set("cpu.shares", std::to_string(*limits.cpu_shares)));
  FASTDOCK_CHECK(set_bandwidth(files, limits));
  // The runtime must fit into the period at every step: a shorter period comes after its runtime.
  auto set_period = [&]() -> Result<void> {
    if (!limits.cpu_rt_period) return {};
    return files.set("cpu.rt_period_us", std::to_string(*limits.cpu_rt_period));
  };
  auto period = set_period();
  if (limits.cpu_rt_runtime)
    FASTDOCK_CHECK(files.set("cpu.rt_runtime_us", number_or(*limits.cpu_rt_runtime, "-1")));
  return period ? period : set_period();
}

Result<void> set_rates_v1(const Files& files, const char* file, const std::vector<DeviceRate>& rates) {
  for (const DeviceRate& rate : rates)
    FASTDOCK_CHECK(files.set_keyed(file, device_line(rate.major, rate.minor, std::to_string(rate.rate))));
  return {};
}

Result<void> apply_blkio(const Files& files, const Limits& limits) {
  // Which weight there is depends on the I/O scheduler: CFQ's (before 5.0) or BFQ's.
  auto first_of = [&](const char* cfq, const char* bfq) { return files.has(cfq) ? cfq : bfq; };
  if (limits.blkio_weight)
    FASTDOCK_CHECK(
        files.set(first_of("blkio.weight", "blkio.bfq.weight"), std::to_string(*limits.blkio_weight)));
  for (const DeviceWeight& weight : limits.blkio_weight_device)
    FASTDOCK_CHECK(files.set_keyed(first_of("blkio.weight_device", "blkio.bfq.weight_device"),
                                   device_line(weight.major, weight.minor, std::to_string(weight.weight))));
  FASTDOCK_CHECK(set_rates_v1(files, "blkio.throttle.read_bps_device", limits.blkio_read_bps));
  FASTDOCK_CHECK(set_rates_v1(files, "blkio.throttle.write_bps_device", limits.blkio_write_bps));
  FASTDOCK_CHECK(set_rates_v1(files, "blkio.throttle.read_iops_device", limits.blkio_read_iops));
  FASTDOCK_CHECK(set_rates_v1(files, "blkio.throttle.write_iops_device", limits.blkio_write_iops));
  return {};
}

Result<void> apply_hugetlb_v1(const Files& files, const Limits& limits) {
  for (const HugetlbLimit& limit : limits.hugetlb) {
    std::string prefix = "hugetlb." + limit.page_size;
    std::string bytes = std::to_string(limit.bytes);
    FASTDOCK_CHECK(files.set(prefix + ".limit_in_bytes", bytes));
    // The limit of reservations (5.7) refuses at mmap instead of killing at the page fault.
    if (files.has(prefix + ".rsvd.limit_in_bytes"))
      FASTDOCK_CHECK(files.set(prefix + ".rsvd.limit_in_bytes", bytes));
  }
  return {};
}

}  // namespace

Result<void> apply_v1(Controller controller, const Files& files, const Limits& limits, Warnings& warnings) {
  switch (controller) {
    case Controller::kMemory:
      return apply_memory_v1(files, limits, warnings);
    case Controller::kCpu:
      return apply_cpu_v1(files, limits);
    case Controller::kCpuset:
      if (limits.cpuset_cpus) FASTDOCK_CHECK(files.set("cpuset.cpus", *limits.cpuset_cpus));
      if (limits.cpuset_mems) FASTDOCK_CHECK(files.set("cpuset.mems", *limits.cpuset_mems));
      return {};
    case Controller::kPids:
      if (limits.pids) return files.set("pids.max", number_or(*limits.pids, "max"));
      return {};
    case Controller::kIo:
      return apply_blkio(files, limits);
    case Controller::kHugetlb:
      return apply_hugetlb_v1(files, limits);
    case Controller::kDevices:
      return apply_device_files(files, limits.devices);
    case Controller::kRdma:
      return apply_rdma(files, limits);
    case Controller::kNetCls:
      if (limits.network_class) return files.set("net_cls.classid", std::to_string(*limits.network_class));
      return {};
    case Controller::kNetPrio:
      for (const NetworkPriority& priority : limits.network_priorities)
        FASTDOCK_CHECK(files.set_keyed("net_prio.ifpriomap",
                                       priority.interface + " " + std::to_string(priority.priority)));
      return {};
    default:
      return {};
  }
}

}  // namespace fastdock::cgroup
