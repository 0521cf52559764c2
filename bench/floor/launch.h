// One launch of the floor program: what the parent prepares, what the child reads, and when each step ended.
#pragma once

#include <linux/filter.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "options.h"

namespace floor_bench {

inline constexpr int kIdBase = 1'000'000;  // ids 0..65535 of the container are these on the host
inline constexpr int kIdCount = 65536;

// When a step ended.  Those of the child come between kCloned and kExec, beside the parent's own.
enum Step {
  kBegin,
  kPrepared,
  kCloned,
  kMapped,
  kReleased,
  kExec,
  kExited,
  kAnswer,
  kCgroupsGone,
  kFilesGone,
  kNamespaceClosed,
  kChildStart,
  kChildCgroup,
  kChildNetwork,
  kChildReleased,
  kChildIds,
  kChildOverlay,
  kChildProc,
  kChildDev,
  kChildIpc,
  kChildSys,
  kChildView,
  kChildMasked,
  kChildReadonly,
  kChildPivot,
  kChildLocked,
  kSteps
};
inline constexpr const char* kStepNames[kSteps] = {
    "begin",        "prepared",      "cloned",         "mapped",     "released",         "exec",
    "exited",       "answer",        "cgroups_gone",   "files_gone", "namespace_closed", "child_start",
    "child_cgroup", "child_network", "child_released", "child_ids",  "child_overlay",    "child_proc",
    "child_dev",    "child_ipc",     "child_sys",      "child_view", "child_masked",     "child_readonly",
    "child_pivot",  "child_locked"};

struct HiddenPath {
  std::string path;  // relative to the root
  bool directory;
};

// Made once per process, and read by every launch.
struct Shared {
  Options options;
  std::vector<HiddenPath> masked;
  std::vector<std::string> readonly;
  std::vector<std::string> controllers;  // cgroup v1; empty on v2
  std::string cgroup_root;
  std::vector<sock_filter> filter;
  std::string empty_directory;
  std::string lower;
  int user_namespace = -1;  // kept: --lower cached, --userns join
  int cached_lower = -1;    // a detached id-mapped mount
  int real_null = -1;
};

struct Launch {
  const Shared* shared = nullptr;
  std::string id, directory;
  std::vector<std::string> cgroups;  // directories
  std::vector<std::string> tasks;    // their tasks files
  int lower = -1, overlay = -1, dev = -1, upper = -1, socket[2] = {-1, -1};
  int cgroup2 = -1;
  std::int64_t at[kSteps] = {};
  std::atomic<std::uint32_t> gate = 0;      // 1: ids and mounts are ready
  std::atomic<std::uint32_t> unexeced = 1;  // CLONE_CHILD_CLEARTID: 0 when the child has left our memory
  const char* failed = nullptr;
  long error = 0;
  char* const* argv = nullptr;
};

// The child: never returns.  Straight line of system calls.
void run_child(void* launch);

// These return a descriptor of a detached mount, or -errno.
int make_dev(
    int uid);  // a container's /dev: a tmpfs of this owner, with nodes by mknod, links and directories
int open_overlay(int lower, int upper, int work, bool userxattr);
int open_file_system(const char* type, unsigned attributes, const char* const* settings);

}  // namespace floor_bench
