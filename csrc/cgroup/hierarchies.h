// Which cgroup hierarchies this machine has, and where fastdock's cgroups go in them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "cgroup/controller.h"

namespace fastdock::cgroup {

struct Hierarchy {
  Version version = Version::kV1;
  ControllerSet controllers;  // v2: also what needs no controller there (devices, freezer, cpuacct)
  std::string name;           // of a v1 hierarchy without controllers: "systemd"
  std::string mount_point;
  std::string own;   // this process's cgroup below the mount point: "" (the top) or "/user.slice/…"
  std::string base;  // the directory that relative cgroup paths start at; empty: we may create none
};

// A cgroup's path means: with a leading "/", below the mount point of each hierarchy (as OCI's
// cgroupsPath); without, below its base.  The base is the mount point, where every process finds it
// again, or, where that may not be written, the topmost ancestor of the own cgroup that may (a delegated
// sub-tree: the same for all processes of one user).
class Hierarchies {
 public:
  // This machine's.  Looked at once per process.  ENOENT: no cgroup file system is mounted.
  static Result<const Hierarchies*> machine();

  // The cgroup `path` ("/…", v2) is ours to use because somebody has delegated it to us (systemd: a scope of
  // a user's).  True where it is not below our base: then what is there can be read and limited from now on,
  // but to move processes there is not ours (cgroups(7), "Delegation containment").  Not while another thread
  // uses what machine() gave.
  static Result<bool> use_delegated(std::string_view path);

  // From the texts of /proc/self/mountinfo and /proc/self/cgroup alone: bases are the mount points and v2
  // offers no controllers.
  static Hierarchies parse(std::string_view mountinfo, std::string_view memberships);

  // v2 where no v1 hierarchy has a controller; a hybrid machine counts as v1.
  [[nodiscard]] Version version() const;
  [[nodiscard]] const std::vector<Hierarchy>& all() const { return all_; }
  // The hierarchy that a controller is in; nullptr: this machine has none.
  [[nodiscard]] const Hierarchy* of(Controller controller) const;
  // The v2 hierarchy, on a hybrid machine too; nullptr: none.
  [[nodiscard]] const Hierarchy* unified() const;

 private:
  void find_bases();
  static Result<Hierarchies*> found();

  std::vector<Hierarchy> all_;  // v1 first
};

// The directory of the cgroup `path` in a hierarchy.
std::string directory_of(const Hierarchy& hierarchy, std::string_view path);

}  // namespace fastdock::cgroup
