// "linux.resources" of config.json.
#include <algorithm>

#include "oci/config.h"

namespace fastdock::oci {
namespace {

using cgroup::Limits;

// Docker and containerd write a zero where they mean "not given", and runc takes it so.
template <class T>
void read_unless_zero(Json value, std::optional<T>& target) {
  std::optional<T> number;
  value.read(number);
  if (number && *number != T{}) target = number;
}

void read_unless_empty(Json value, std::optional<std::string>& target) {
  std::optional<std::string> text;
  value.read(text);
  if (text && !text->empty()) target = std::move(text);
}

void read_memory(Json memory, Limits& limits) {
  read_unless_zero(memory["limit"], limits.memory);
  read_unless_zero(memory["swap"], limits.memory_swap);
  read_unless_zero(memory["reservation"], limits.memory_reservation);
  read_unless_zero(memory["kernel"], limits.kernel_memory);
  read_unless_zero(memory["kernelTCP"], limits.kernel_memory_tcp);
  memory["swappiness"].read(limits.memory_swappiness);
  bool disable = false;
  memory["disableOOMKiller"].read(disable);
  if (disable) limits.oom_kill_disable = true;
}

void read_cpu(Json cpu, Limits& limits) {
  read_unless_zero(cpu["shares"], limits.cpu_shares);
  read_unless_zero(cpu["quota"], limits.cpu_quota);
  read_unless_zero(cpu["period"], limits.cpu_period);
  cpu["burst"].read(limits.cpu_burst);
  cpu["idle"].read(limits.cpu_idle);
  read_unless_zero(cpu["realtimeRuntime"], limits.cpu_rt_runtime);
  read_unless_zero(cpu["realtimePeriod"], limits.cpu_rt_period);
  read_unless_empty(cpu["cpus"], limits.cpuset_cpus);
  read_unless_empty(cpu["mems"], limits.cpuset_mems);
}

void read_rates(Json list, std::vector<cgroup::DeviceRate>& target) {
  list.each([&](Json entry) {
    cgroup::DeviceRate rate;
    entry.required("major").read(rate.major);
    entry.required("minor").read(rate.minor);
    entry["rate"].read(rate.rate);
    target.push_back(rate);
  });
}

void read_block_io(Json io, Limits& limits) {
  read_unless_zero(io["weight"], limits.blkio_weight);
  std::optional<std::uint16_t> leaf;
  read_unless_zero(io["leafWeight"], leaf);
  if (leaf) io["leafWeight"].refuse("is not supported: the kernel has no CFQ scheduler any more");
  io["weightDevice"].each([&](Json entry) {
    cgroup::DeviceWeight weight;
    entry.required("major").read(weight.major);
    entry.required("minor").read(weight.minor);
    entry["weight"].read(weight.weight);
    limits.blkio_weight_device.push_back(weight);
  });
  read_rates(io["throttleReadBpsDevice"], limits.blkio_read_bps);
  read_rates(io["throttleWriteBpsDevice"], limits.blkio_write_bps);
  read_rates(io["throttleReadIOPSDevice"], limits.blkio_read_iops);
  read_rates(io["throttleWriteIOPSDevice"], limits.blkio_write_iops);
}

void read_device_rules(Json devices, Limits& limits) {
  devices.each([&](Json entry) {
    cgroup::DeviceRule rule;
    entry.required("allow").read(rule.allow);
    std::string type = "a";
    entry["type"].read(type);
    if (type.empty()) type = "a";
    if (type != "a" && type != "c" && type != "b") return entry["type"].refuse("must be a, b or c");
    rule.type = type[0];
    // -1 is what Go programs write for "any".
    std::optional<std::int64_t> major;
    std::optional<std::int64_t> minor;
    entry["major"].read(major);
    entry["minor"].read(minor);
    if ((major && (*major < -1 || *major > 0xfff)) || (minor && (*minor < -1 || *minor > 0xfffff)))
      return entry.refuse("has a device number that is out of range");
    if (major && *major >= 0) rule.major = static_cast<std::uint32_t>(*major);
    if (minor && *minor >= 0) rule.minor = static_cast<std::uint32_t>(*minor);
    entry["access"].read(rule.access);
    if (rule.access.empty()) rule.access = "rwm";
    // "a" is the type "all" in the wrong place, which runc leaves out.
    std::erase(rule.access, 'a');
    if (rule.access.empty() || rule.access.find_first_not_of("rwm") != std::string::npos)
      entry["access"].refuse("must be of r, w and m");
    limits.devices.push_back(std::move(rule));
  });
}

void read_others(Json resources, Limits& limits) {
  resources["pids"]["limit"].read(limits.pids);
  limits.pids = pids_limit(limits.pids);
  resources["hugepageLimits"].each([&](Json entry) {
    cgroup::HugetlbLimit limit;
    entry.required("pageSize").read(limit.page_size);
    entry.required("limit").read(limit.bytes);
    limits.hugetlb.push_back(std::move(limit));
  });
  resources["rdma"].members([&](std::string_view device, Json entry) {
    cgroup::RdmaLimit limit;
    limit.device = device;
    entry["hcaHandles"].read(limit.handles);
    entry["hcaObjects"].read(limit.objects);
    limits.rdma.push_back(std::move(limit));
  });
  read_unless_zero(resources["network"]["classID"], limits.network_class);
  resources["network"]["priorities"].each([&](Json entry) {
    cgroup::NetworkPriority priority;
    entry.required("name").read(priority.interface);
    entry.required("priority").read(priority.priority);
    limits.network_priorities.push_back(std::move(priority));
  });
  resources["unified"].members([&](std::string_view file, Json value) {
    std::string text;
    value.read(text);
    // config-linux.md: a file of the cgroup, and nothing else.
    if (file.empty() || file.find('/') != std::string_view::npos || file.starts_with('.') ||
        file.find('\0') != std::string_view::npos)
      return value.refuse("is no file of a cgroup");
    limits.unified.emplace(file, std::move(text));
  });
}

cgroup::DeviceRule allowed(char type, std::optional<std::uint32_t> major, std::optional<std::uint32_t> minor,
                           const char* access) {
  cgroup::DeviceRule rule;
  rule.type = type;
  rule.major = major;
  rule.minor = minor;
  rule.access = access;
  rule.allow = true;
  return rule;
}

}  // namespace

std::optional<std::int64_t> pids_limit(std::optional<std::int64_t> given) { return given == 0 ? 1 : given; }

void read_resources(Json resources, Limits& limits) {
  read_memory(resources["memory"], limits);
  read_cpu(resources["cpu"], limits);
  read_block_io(resources["blockIO"], limits);
  read_device_rules(resources["devices"], limits);
  read_others(resources, limits);
}

void allow_default_devices(Limits& limits) {
  // runc's specconv.AllowedDevices: every node may be made, few may be used.
  cgroup::DeviceRule none;
  if (limits.devices.empty()) limits.devices.push_back(none);
  constexpr std::optional<std::uint32_t> any;
  limits.devices.push_back(allowed('c', any, any, "m"));
  limits.devices.push_back(allowed('b', any, any, "m"));
  for (std::uint32_t minor : {3U, 5U, 7U, 8U, 9U}) limits.devices.push_back(allowed('c', 1, minor, "rwm"));
  for (std::uint32_t minor : {0U, 2U}) limits.devices.push_back(allowed('c', 5, minor, "rwm"));
  limits.devices.push_back(allowed('c', 136, any, "rwm"));  // /dev/pts/*
}

}  // namespace fastdock::oci
