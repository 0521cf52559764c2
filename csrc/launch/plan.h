// LaunchPlan: everything that decides how a process starts, as one plain value.
//
// A plan is built once per image and options, copied and altered per container, and consumed by
// launch() (launch.h).  It knows nothing of images, SQLite or Docker: the faces translate into it.
#pragma once

#include <linux/filter.h>
#include <sys/types.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "rootfs/mount.h"
#include "rootfs/root_change.h"

namespace fastdock::launch {

using rootfs::Device;
using rootfs::IdMapping;
using rootfs::Link;
using rootfs::Mount;

// namespaces(7), in the order in which setns(2) must join them: the user namespace first, because it
// gives the rights for the others (but see join_from_outside()); the PID namespace last (CVE-2016-9962).
enum class Namespace : std::uint8_t { kUser, kMount, kUts, kIpc, kNet, kCgroup, kTime, kPid, kCount_ };
enum class NamespaceMode : std::uint8_t { kHost, kNew, kJoin };

struct NamespacePlan {
  NamespaceMode mode = NamespaceMode::kHost;
  std::string path;  // kJoin: /proc/PID/ns/X, or a bind mount of one
};

struct ResourceLimit {
  int resource = 0;  // RLIMIT_*
  std::uint64_t soft = 0, hard = 0;
};

struct Sysctl {
  std::string name, value;  // "net.ipv4.ip_forward" or with slashes
};

// Bit n is capability n, as in capabilities(7).
struct Capabilities {
  std::uint64_t bounding = 0, effective = 0, permitted = 0, inheritable = 0, ambient = 0;
};

struct User {
  // As for `docker run --user`: "name", "7", "name:group", "7:8"; looked up in the image's own
  // /etc/passwd and /etc/group by the child.  Empty: uid, gid and groups below are used as they are.
  std::string name;
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
  std::vector<std::string> group_names;  // --group-add, names or numbers
  std::optional<mode_t> umask;
};

struct Terminal {
  std::uint16_t rows = 0, columns = 0;  // 0: the kernel's default
  bool plain_newlines = false;          // no carriage returns put in (ONLCR off): its reader is no terminal
};

struct Scheduler {
  std::uint32_t policy = 0;
  std::int32_t nice = 0;
  std::uint32_t priority = 0;
  std::uint64_t flags = 0, runtime = 0, deadline = 0, period = 0;
};

// set_mempolicy(2).
struct MemoryPolicy {
  int mode = 0;  // MPOL_*, with MPOL_F_*
  std::vector<int> nodes;
};

struct ClockOffset {
  int clock = 0;  // CLOCK_MONOTONIC or CLOCK_BOOTTIME
  std::int64_t seconds = 0;
  std::uint32_t nanoseconds = 0;
};

struct LaunchPlan {
  std::vector<std::string> argv;
  std::string program;                   // what is executed; empty: argv[0]
  std::vector<std::string> environment;  // "NAME=value"
  std::string working_directory = "/";
  bool create_working_directory = false;
  User user;
  std::array<NamespacePlan, static_cast<std::size_t>(Namespace::kCount_)> namespaces;
  std::vector<IdMapping> uid_map, gid_map;
  std::vector<ClockOffset> clock_offsets;

  // The root: an overlay of layers (Mount::layers, or one plain directory in Mount::source as a bind).
  // Without it the process keeps the root of its mount namespace.
  std::optional<Mount> root;
  std::string attach_point =
      "/run";  // an existing directory of the host, covered in the container's view only
  std::uint64_t root_propagation = 0;  // of the host's mounts as seen inside, before they go; 0: MS_PRIVATE
  // kChroot: there is no new mount namespace; the root is attached at attach_point for all to see, and
  // whoever asked for it detaches it.
  rootfs::RootChange root_change = rootfs::RootChange::kPivot;
  // Without a root of its own: this process's root directory becomes the one behind this path
  // ("/proc/7/root").
  std::string other_root;
  std::vector<Mount> mounts;
  std::vector<Device> devices;
  std::vector<Link> links;
  std::vector<std::string> masked_paths, read_only_paths;
  std::vector<Sysctl> sysctls;
  std::string hostname, domainname;
  bool raise_loopback = false;

  Capabilities capabilities;
  bool no_new_privileges = false;
  std::vector<sock_filter> seccomp;
  std::uint32_t seccomp_flags = 0;  // SECCOMP_FILTER_FLAG_*
  std::vector<ResourceLimit> limits;
  std::optional<int> oom_score_adjustment;
  std::optional<Scheduler> scheduler;
  std::optional<int> io_priority;             // as ioprio_set(2) takes it
  std::vector<int> initial_cpus, final_cpus;  // OCI execCPUAffinity
  std::optional<MemoryPolicy> memory_policy;
  std::optional<unsigned long> personality;
  std::string apparmor_profile, selinux_label;
  bool new_keyring = true;

  std::array<int, 3> stdio = {0, 1, 2};  // the caller's descriptors
  std::optional<Terminal> terminal;      // instead of stdio: a new terminal, whose other side comes back
  int preserve_descriptors = 0;          // this many from 3 on stay open in the program
  bool init = false;                     // a tiny init is process 1 and runs argv
  bool new_session = true;
  int parent_death_signal = 0;  // 0: none
  // OCI create: launch() returns when all is done but execve, and the process waits until someone writes a
  // byte into this FIFO.
  std::string start_fifo;

  // cgroup.  Descriptors of v1 `tasks` files, or one of a v2 directory: see cgroup/cgroup.h.
  std::vector<int> cgroup_tasks;
  int cgroup_directory = -1;
  // Descriptors of the mounts with a late source, in their order: rootfs::open_late_sources().
  std::vector<int> late_sources;
};

}  // namespace fastdock::launch
