// The child's side of a launch: from clone to execve, one straight line of system calls.
//
// ChildPlan is a LaunchPlan flattened into arrays (flatten.h).  The child may share its parent's memory,
// so child*.cpp include kernel headers and this, and a test checks with `nm -u` that their object files
// call nothing that could allocate, lock or throw.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <span>

#include "rootfs/child_root.h"

namespace fastdock::launch {

// Where the child stops, tells its parent and waits for its word.
enum class SyncPoint : std::uint32_t {
  kMounted,  // the root is built, not yet entered: OCI's prestart, createRuntime and createContainer hooks
  kReady,    // all that is left is execve
};

enum class MessageKind : std::uint32_t {
  kError,     // number, operation, hint and the path
  kCloned,    // helper only: value is the child's pid; carries Process::memory
  kTerminal,  // carries the terminal's descriptor
  kListener,  // carries the seccomp listener's descriptor
  kReached,   // value is a SyncPoint; the child waits for one byte
  kMapIds,    // value is the number of a mount; carries it, detached; the child waits for one byte
  kWaiting,   // nothing more will come: the child waits at its start FIFO
};

// What goes over the socket between child and parent; an error's path follows it.
struct Message {
  MessageKind kind = MessageKind::kError;
  std::int32_t number = 0;
  Operation operation = Operation::kNone;
  Hint hint = Hint::kNone;
  std::int32_t value = 0;
};

struct DescriptorRange {
  unsigned first, last;
};

struct JoinedNamespace {
  int descriptor;
  int type;  // CLONE_NEW*
  const char* path;
};

struct ChildLimit {
  int resource;
  std::uint64_t soft, hard;
  const char* name;
};

// As sched_setattr(2) takes it; glibc 2.36 has no declaration.
struct SchedulerAttributes {
  std::uint32_t size, policy;
  std::uint64_t flags;
  std::int32_t nice;
  std::uint32_t priority;
  std::uint64_t runtime, deadline, period;
};

struct ChildUser {
  const char* name = nullptr;  // look this up; null: the numbers
  std::uint32_t uid = 0, gid = 0;
  std::span<const std::uint32_t> groups;
  std::span<const char* const> group_names;
  int umask = -1;
};

struct ChildCapabilities {
  std::uint64_t bounding, effective, permitted, inheritable, ambient;
  unsigned last;  // the highest capability this kernel knows
};

struct ChildPlan {
  int sync = -1;
  std::span<const DescriptorRange> unneeded;  // descriptors to close first
  bool wait_for_parent = false;               // for the id maps
  bool new_user_namespace = false;
  bool joins_user_namespace = false;
  bool keeps_groups = false;  // setgroups(2) is denied: see may_set_groups()
  int parent_death_signal = 0;
  std::span<const int> cgroup_tasks;
  std::span<const JoinedNamespace> joined;
  std::uint64_t already_joined = 0;  // bit n: the n-th of them
  std::uint64_t unshare_flags = 0;   // the cgroup namespace: made only when the child is in its cgroup

  bool has_root = false;
  rootfs::ChildRoot root;
  rootfs::RootChange root_change = rootfs::RootChange::kPivot;
  int other_root = -1;                       // without a root of its own: a directory that becomes it
  std::span<const char* const> bare_mounts;  // see enter_root()
  std::uint64_t final_propagation = 0;
  std::uint32_t sync_points = 0;  // bit per SyncPoint
  bool held = false;              // at kReady, until its program is known: the rest of the plan is read then
  bool held_in_filter = false;    // with the seccomp filter loaded, which allows what is left to do
  std::span<const rootfs::ChildSysctl> sysctls;
  const char* hostname = nullptr;
  const char* domainname = nullptr;
  bool raise_loopback = false;

  bool new_session = false;
  bool terminal = false;
  bool plain_newlines = false;
  bool console = false;  // bind the terminal on /dev/console
  std::uint16_t rows = 0, columns = 0;
  int stdio[3] = {0, 1, 2};
  int preserve = 0;

  std::span<const ChildLimit> limits;
  const SchedulerAttributes* scheduler = nullptr;
  int io_priority = -1;
  std::span<const unsigned long> initial_cpus, final_cpus;  // masks for sched_setaffinity(2)
  int memory_policy = -1;                                   // as set_mempolicy(2) takes it
  std::span<const unsigned long> memory_nodes;              // its mask
  long personality = -1;
  const char* apparmor_profile = nullptr;
  const char* selinux_label = nullptr;
  bool new_keyring = false;

  ChildUser user;
  ChildCapabilities capabilities{};
  bool no_new_privileges = false;
  const sock_fprog* seccomp = nullptr;
  std::uint32_t seccomp_flags = 0;

  const char* working_directory = "/";
  bool create_working_directory = false;
  const char* program = nullptr;
  const char* const* argv = nullptr;
  const char** environment = nullptr;  // has a free slot before its end for HOME
  const char** home_slot = nullptr;    // null: HOME is set already
  const char* search_path = "";        // PATH
  int init = -1;                       // the tiny init's program, to be process 1
  int start_fifo = -1;                 // open for reading and writing, so that a read waits for a byte
};

// The child's main; `argument` is a ChildPlan.  Ends in execve or _exit(127).
[[noreturn]] void run_child(void* argument);

}  // namespace fastdock::launch
