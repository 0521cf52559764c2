#include "cgroup/apply.h"

#include <cerrno>

namespace fastdock::cgroup {
namespace {

std::unexpected<Error> refused(std::string_view what, Hint hint = Hint::kLimitRefused) {
  return failed_with(EINVAL, Operation::kSetCgroupLimit, what, hint);
}

// A part of a file's name or of a line: nothing that would make another file or line of it.
bool is_plain(std::string_view word) {
  return !word.empty() && word.find_first_of("/ \n\t=") == std::string_view::npos &&
         word.find('\0') == std::string_view::npos;
}

Result<void> check_device(const DeviceRule& rule) {
  if (rule.type != 'a' && rule.type != 'b' && rule.type != 'c')
    return refused(std::string("device type '") + rule.type + "'");
  if (rule.access.empty() || rule.access.find_first_not_of("rwm") != std::string::npos)
    return refused("device access '" + rule.access + "'");
  return {};
}

// A file of `unified` is one of this cgroup, and of a controller: not cgroup.procs, cgroup.kill and the like.
Result<void> check_unified(const Limits& limits, Version version) {
  if (!limits.unified.empty() && version == Version::kV1)
    return failed_with(ENOTSUP, Operation::kSetCgroupLimit, "unified", Hint::kNotOnThisCgroupVersion);
  for (const auto& [file, value] : limits.unified)
    if (!is_plain(file) || file.find('.') == std::string::npos || file.starts_with('.') ||
        file.starts_with("cgroup."))
      return refused("unified " + file);
  return {};
}

}  // namespace

std::string device_line(std::uint32_t major, std::uint32_t minor, std::string_view suffix) {
  return std::to_string(major).append(":").append(std::to_string(minor)).append(" ").append(suffix);
}

Result<void> apply_rdma(const Files& files, const Limits& limits) {
  for (const RdmaLimit& limit : limits.rdma) {
    std::string value = limit.device;
    if (limit.handles) value += " hca_handle=" + std::to_string(*limit.handles);
    if (limit.objects) value += " hca_object=" + std::to_string(*limit.objects);
    FASTDOCK_CHECK(files.set_keyed("rdma.max", value));
  }
  return {};
}

Result<void> check(const Limits& limits, Version version) {
  for (const DeviceRule& rule : limits.devices) FASTDOCK_CHECK(check_device(rule));
  for (const HugetlbLimit& limit : limits.hugetlb)
    if (!is_plain(limit.page_size)) return refused("hugetlb page size '" + limit.page_size + "'");
  for (const RdmaLimit& limit : limits.rdma)
    if (!is_plain(limit.device)) return refused("rdma device '" + limit.device + "'");
  for (const NetworkPriority& priority : limits.network_priorities)
    if (!is_plain(priority.interface)) return refused("network interface '" + priority.interface + "'");
  // The kernel reads an empty write to cpuset.cpus as "none", and then no process can join.
  if (limits.cpuset_cpus && limits.cpuset_cpus->empty()) return refused("cpuset.cpus=");
  if (limits.cpuset_mems && limits.cpuset_mems->empty()) return refused("cpuset.mems=");
  if (limits.memory && limits.memory_swap && *limits.memory_swap >= 0 &&
      (*limits.memory < 0 || *limits.memory_swap < *limits.memory))
    return refused("memory_swap=" + std::to_string(*limits.memory_swap), Hint::kSwapBelowMemory);
  return check_unified(limits, version);
}

ControllerSet controllers_of(const Limits& limits) {
  ControllerSet set;
  auto needs = [&](Controller controller, bool limited) {
    if (limited) set.add(controller);
  };
  needs(Controller::kMemory, limits.memory || limits.memory_swap || limits.memory_reservation ||
                                 limits.kernel_memory || limits.kernel_memory_tcp ||
                                 limits.memory_swappiness || limits.oom_kill_disable);
  needs(Controller::kCpu, limits.cpu_shares || limits.cpu_quota || limits.cpu_period || limits.cpu_burst ||
                              limits.cpu_idle || limits.cpu_rt_runtime || limits.cpu_rt_period);
  needs(Controller::kCpuset, limits.cpuset_cpus || limits.cpuset_mems);
  needs(Controller::kPids, limits.pids.has_value());
  needs(Controller::kIo, limits.blkio_weight || !limits.blkio_weight_device.empty() ||
                             !limits.blkio_read_bps.empty() || !limits.blkio_write_bps.empty() ||
                             !limits.blkio_read_iops.empty() || !limits.blkio_write_iops.empty());
  needs(Controller::kHugetlb, !limits.hugetlb.empty());
  needs(Controller::kRdma, !limits.rdma.empty());
  needs(Controller::kNetCls, limits.network_class.has_value());
  needs(Controller::kNetPrio, !limits.network_priorities.empty());
  needs(Controller::kDevices, !limits.devices.empty());
  for (const auto& [file, value] : limits.unified)
    if (auto controller = controller_named(std::string_view(file).substr(0, file.find('.'))))
      set.add(*controller);
  return set;
}

}  // namespace fastdock::cgroup
