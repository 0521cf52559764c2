// What the floor program is asked to do: which groups of system calls, and which way of doing each.
#pragma once

#include <set>
#include <string>
#include <vector>

namespace floor_bench {

struct Options {
  int iterations = 20;
  int warmup = 3;
  int threads = 1;
  int spacing_ms = 0;
  std::string rootfs;
  std::string state;
  std::string seccomp;       // file of struct sock_filter; empty: one BPF_RET ALLOW
  std::string dev = "bind";  // bind | parent: nodes of /dev bound by the child, or made by the parent
  std::string mask =
      "each";  // each | shared | host: a tmpfs per masked directory, one for all, a host directory
  std::string sync = "futex";     // futex | socket
  std::string lower = "fresh";    // fresh | cached: id-mapped lower layer made per launch, or cloned from one
  std::string overlay = "child";  // child | parent: who mounts the overlay
  std::string prepare =
      "before";  // before | during: cgroups and /dev made before the clone or beside the child
  std::string namespaces = "clone";  // clone | unshare: net, ipc, uts by clone3 or by the child
  std::string upper = "disk";  // disk | own: a directory in --state, or a tmpfs that dies with the container
  std::string wait = "pidfd";  // pidfd | sigchld
  std::string hold = "none";   // none | mnt: keep the mount namespace alive until the answer was given
  std::string view = "bind";   // bind | mount | one: cgroup view by binds, by fresh mounts, memory only
  std::string root = "pivot";  // pivot | shallow: unmount the old root, or leave it covered (no umount)
  std::string serve = "no";    // yes: one start per line on stdin
  std::string cgroup =
      "fastdock-floor";  // parent of the cgroups, in each hierarchy: two of us at once need two
  std::set<std::string> without;
  std::vector<std::string> argv = {"/bin/true"};

  [[nodiscard]] bool has(const char* group) const { return !without.contains(group); }
};

Options parse_options(int argc, char** argv);

}  // namespace floor_bench
