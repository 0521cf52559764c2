// "linux" of config.json, without resources and seccomp.
#include <linux/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <span>
#include <unordered_set>

#include "base/user_namespace.h"
#include "oci/config.h"

namespace fastdock::oci {
namespace {

using launch::LaunchPlan;
using launch::Namespace;
using launch::NamespaceMode;

constexpr std::uint64_t kRecursive = 1U << 14;  // MS_REC
constexpr std::uint64_t kRootUnbindable = 1U << 17;
constexpr std::uint64_t kRootPrivate = 1U << 18;
constexpr std::uint64_t kRootSlave = 1U << 19;
constexpr std::uint64_t kRootShared = 1U << 20;

struct NamespaceName {
  std::string_view name;
  Namespace kind;
};
constexpr auto kNamespaces = std::to_array<NamespaceName>({
    {"pid", Namespace::kPid},
    {"network", Namespace::kNet},
    {"mount", Namespace::kMount},
    {"ipc", Namespace::kIpc},
    {"uts", Namespace::kUts},
    {"user", Namespace::kUser},
    {"cgroup", Namespace::kCgroup},
    {"time", Namespace::kTime},
});

NamespaceMode mode(const LaunchPlan& plan, Namespace kind) {
  return plan.namespaces[static_cast<std::size_t>(kind)].mode;
}

void read_namespaces(Json namespaces, LaunchPlan& plan) {
  namespaces.each([&](Json entry) {
    const auto* found = std::ranges::find(kNamespaces, entry.required("type").text(), &NamespaceName::name);
    if (found == kNamespaces.end()) return entry["type"].refuse("is not a known namespace");
    launch::NamespacePlan& target = plan.namespaces[static_cast<std::size_t>(found->kind)];
    if (target.mode != NamespaceMode::kHost) return entry.refuse("is there twice");
    entry["path"].read(target.path);
    target.mode = target.path.empty() ? NamespaceMode::kNew : NamespaceMode::kJoin;
    if (!target.path.empty() && !target.path.starts_with('/'))
      entry["path"].refuse("must be an absolute path");
  });
}

void read_id_map(Json mappings, std::vector<rootfs::IdMapping>& target) {
  mappings.each([&](Json entry) {
    rootfs::IdMapping mapping;
    entry.required("containerID").read(mapping.inside);
    entry.required("hostID").read(mapping.outside);
    entry.required("size").read(mapping.count);
    if (mapping.count == 0) entry["size"].refuse("must not be zero");
    target.push_back(mapping);
  });
}

void read_clock_offsets(Json offsets, LaunchPlan& plan) {
  offsets.members([&](std::string_view name, Json entry) {
    launch::ClockOffset offset;
    if (name == "monotonic") {
      offset.clock = CLOCK_MONOTONIC;
    } else if (name == "boottime") {
      offset.clock = CLOCK_BOOTTIME;
    } else {
      return entry.refuse("is neither monotonic nor boottime");
    }
    entry["secs"].read(offset.seconds);
    entry["nanosecs"].read(offset.nanoseconds);
    plan.clock_offsets.push_back(offset);
  });
}

void read_root_propagation(Json propagation, LaunchPlan& plan) {
  if (!propagation || !plan.root) return;
  std::string_view word = propagation.text();
  bool recursive = word.starts_with('r');
  if (recursive) word.remove_prefix(1);
  std::uint64_t type = 0;
  if (word == "shared") type = kRootShared;
  if (word == "slave") type = kRootSlave;
  if (word == "private") type = kRootPrivate;
  if (word == "unbindable") type = kRootUnbindable;
  if (word.empty() && !recursive) return;
  if (type == 0)
    return propagation.refuse("must be shared, slave, private or unbindable, with an r in front or not");
  // The root is taken from the host's mounts before it is made private or a slave of them, so that "slave"
  // and "shared" are of the host's; and what is mounted inside the container follows once more at the end.
  // A shared one is private until then, as runc's: pivot_root(2) refuses to put the old root on a shared
  // mount.
  if (type != kRootShared) plan.root->propagation = type;
  plan.root->propagation_recursive = recursive;
  if (type == kRootShared || type == kRootUnbindable)
    plan.root_propagation = type | (recursive ? kRecursive : 0);
}

void read_personality(Json personality, LaunchPlan& plan) {
  if (!personality) return;
  std::string_view domain = personality.required("domain").text();
  if (domain != "LINUX" && domain != "LINUX32") personality["domain"].refuse("must be LINUX or LINUX32");
  personality["flags"].each([](Json flag) { flag.refuse("is not a known personality flag"); });
  constexpr unsigned long kLinux32 = 0x0008;  // PER_LINUX32, personality(2)
  plan.personality = domain == "LINUX32" ? kLinux32 : 0;
}

struct MemoryWord {
  std::string_view name;
  int value;
};
// linux/mempolicy.h; Debian's knows neither the newest mode nor the newest flag.
constexpr auto kMemoryModes = std::to_array<MemoryWord>({
    {"MPOL_DEFAULT", 0},
    {"MPOL_PREFERRED", 1},
    {"MPOL_BIND", 2},
    {"MPOL_INTERLEAVE", 3},
    {"MPOL_LOCAL", 4},
    {"MPOL_PREFERRED_MANY", 5},
    {"MPOL_WEIGHTED_INTERLEAVE", 6},
});
constexpr auto kMemoryFlags = std::to_array<MemoryWord>({
    {"MPOL_F_NUMA_BALANCING", 1 << 13},
    {"MPOL_F_RELATIVE_NODES", 1 << 14},
    {"MPOL_F_STATIC_NODES", 1 << 15},
});

// Whether this kernel knows the mode, and the container may use the nodes, the kernel says.
void read_memory_policy(Json policy, LaunchPlan& plan) {
  if (!policy) return;
  launch::MemoryPolicy target;
  if (policy["mode"].text().empty()) return policy.refuse("has an invalid memory policy mode: none");
  const auto* mode = std::ranges::find(kMemoryModes, policy["mode"].text(), &MemoryWord::name);
  if (mode == kMemoryModes.end()) return policy["mode"].refuse("is an invalid memory policy mode");
  target.mode = mode->value;
  policy["flags"].each([&](Json entry) {
    const auto* flag = std::ranges::find(kMemoryFlags, entry.text(), &MemoryWord::name);
    if (flag == kMemoryFlags.end()) return entry.refuse("is an invalid memory policy flag");
    target.mode |= flag->value;
  });
  std::string text;
  policy["nodes"].read(text);
  auto nodes = parse_cpu_list(text);
  if (!nodes) return policy["nodes"].refuse("is an invalid memory policy node list (0-3,7 is a valid one)");
  target.nodes = std::move(*nodes);
  plan.memory_policy = std::move(target);
}

std::vector<std::string> names(std::span<const MemoryWord> words) {
  std::vector<std::string> list;
  for (const MemoryWord& word : words) list.emplace_back(word.name);
  return list;
}

// What needs something that this machine may not have: refused by name, never dropped.
void check_kernel(Json linux) {
  if (linux["intelRdt"] && ::access("/sys/fs/resctrl/schemata", F_OK) != 0)
    linux["intelRdt"].refuse("needs the resctrl file system, which is not mounted at /sys/fs/resctrl");
  else if (linux["intelRdt"])
    linux["intelRdt"].refuse("is not supported by fastdock-oci");
  if (!linux["mountLabel"].text().empty() && ::access("/sys/fs/selinux", F_OK) != 0)
    linux["mountLabel"].refuse("needs SELinux, which this machine has not");
}

void read_network_devices(Json devices, Config& config) {
  constexpr std::size_t kLongestName = 15;  // IFNAMSIZ
  devices.members([&](std::string_view host_name, Json entry) {
    NetDevice device{std::string(host_name), {}};
    entry["name"].read(device.name);
    if (device.name.empty()) device.name = device.host_name;
    for (const std::string& name : {device.host_name, device.name})
      if (name.empty() || name.size() > kLongestName || name == "." || name == ".." ||
          name.find_first_of("/: \t\n") != std::string::npos || name.find('\0') != std::string::npos)
        entry.refuse("is no name of a network device");
    config.network_devices.push_back(std::move(device));
  });
}

bool binds_dev(const LaunchPlan& plan) {
  return std::ranges::any_of(plan.mounts, [](const rootfs::Mount& mount) {
    return mount.type == "bind" && (mount.destination == "/dev" || mount.destination == "/dev/");
  });
}

rootfs::Device read_device(Json entry) {
  rootfs::Device device;
  std::string_view type = entry.required("type").text();
  if (type != "c" && type != "b" && type != "u" && type != "p") entry["type"].refuse("must be c, b, u or p");
  device.kind = type == "u" || type.empty() ? 'c' : type[0];
  entry.required("path").read(device.path);
  if (!device.path.starts_with('/')) entry["path"].refuse("must be an absolute path");
  while (device.path.size() > 1 && device.path.ends_with('/')) device.path.pop_back();
  if (device.kind != 'p') {
    entry.required("major").read(device.major);
    entry.required("minor").read(device.minor);
  }
  std::optional<std::uint32_t> mode;
  entry["fileMode"].read(mode);
  device.mode = static_cast<mode_t>(mode.value_or(0666)) & 07777;
  entry["uid"].read(device.uid);
  entry["gid"].read(device.gid);
  return device;
}

struct DefaultDevice {
  const char* path;
  std::uint32_t minor;
  std::uint32_t major;
};
// config-linux.md, "Default Devices".
constexpr auto kDefaultDevices = std::to_array<DefaultDevice>({
    {"/dev/null", 3, 1},
    {"/dev/zero", 5, 1},
    {"/dev/full", 7, 1},
    {"/dev/random", 8, 1},
    {"/dev/urandom", 9, 1},
    {"/dev/tty", 0, 5},
});

}  // namespace

void read_devices(Json devices, Config& config) {
  LaunchPlan& plan = config.plan;
  const bool own_dev = !binds_dev(plan);
  std::vector<rootfs::Device> wanted;
  devices.each([&](Json entry) { wanted.push_back(read_device(entry)); });
  if (!own_dev) {
    // As runc: a /dev of the host's is left as it is.
    return;
  }
  for (const DefaultDevice& device : kDefaultDevices) {
    bool given = std::ranges::any_of(wanted, [&](const auto& other) { return other.path == device.path; });
    if (given) continue;
    rootfs::Device made;
    made.path = device.path;
    made.major = device.major;
    made.minor = device.minor;
    plan.devices.push_back(std::move(made));
  }
  plan.devices.insert(plan.devices.end(), wanted.begin(), wanted.end());
  // mknod(2) needs the initial user namespace.
  if (mode(plan, Namespace::kUser) != NamespaceMode::kHost || !in_initial_user_namespace())
    for (rootfs::Device& device : plan.devices) device.host_path = device.path;
  // runtime-linux.md, "Dev symbolic links".
  plan.links = {{"/proc/self/fd", "/dev/fd"},
                {"/proc/self/fd/0", "/dev/stdin"},
                {"/proc/self/fd/1", "/dev/stdout"},
                {"/proc/self/fd/2", "/dev/stderr"}};
  if (::access("/proc/kcore", F_OK) == 0) plan.links.push_back({"/proc/kcore", "/dev/core"});
  plan.links.push_back({"pts/ptmx", "/dev/ptmx"});
}

std::vector<std::string> memory_policy_modes() { return names(kMemoryModes); }
std::vector<std::string> memory_policy_flags() { return names(kMemoryFlags); }

void read_linux(Json linux, Config& config) {
  LaunchPlan& plan = config.plan;
  read_namespaces(linux["namespaces"], plan);
  read_id_map(linux["uidMappings"], plan.uid_map);
  read_id_map(linux["gidMappings"], plan.gid_map);
  read_clock_offsets(linux["timeOffsets"], plan);
  read_root_propagation(linux["rootfsPropagation"], plan);
  linux["cgroupsPath"].read(config.cgroups_path);
  read_resources(linux["resources"], config.limits);
  allow_default_devices(config.limits);
  linux["sysctl"].members([&](std::string_view name, Json value) {
    launch::Sysctl sysctl{std::string(name), {}};
    value.read(sysctl.value);
    if (name.find("..") != std::string_view::npos || name.empty() ||
        name.find('\0') != std::string_view::npos)
      return value.refuse("is no sysctl");
    plan.sysctls.push_back(std::move(sysctl));
  });
  linux["maskedPaths"].read(plan.masked_paths);
  std::unordered_set<std::string_view> masked;
  std::erase_if(plan.masked_paths, [&](const std::string& path) { return !masked.insert(path).second; });
  linux["readonlyPaths"].read(plan.read_only_paths);
  read_personality(linux["personality"], plan);
  read_network_devices(linux["netDevices"], config);
  read_memory_policy(linux["memoryPolicy"], plan);
  check_kernel(linux);
  config.seccomp = linux["seccomp"];
  // As runc and crun: a network namespace of the container's own has its loopback up.
  plan.raise_loopback = mode(plan, Namespace::kNet) == NamespaceMode::kNew;
}

}  // namespace fastdock::oci
