// A LaunchPlan made into the arrays that the child reads (child.h).
#pragma once

#include <deque>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "launch/child.h"
#include "launch/plan.h"
#include "rootfs/prepare.h"

namespace fastdock::launch {

// Owns the arrays; points into `plan`, which must outlive it.  Not movable: the arrays are pointed to.
class Flattened {
 public:
  // `greeted`: the caller will call map_ids().
  static Result<std::unique_ptr<Flattened>> make(const LaunchPlan& plan, int sync, bool greeted = false);
  // The same in two steps.  The first does not look at the plan's descriptors of the cgroup and of late
  // sources, so that another thread may make these meanwhile.
  static Result<std::unique_ptr<Flattened>> begin(const LaunchPlan& plan, bool greeted);
  // `sync`: the child's end of the socket.
  void finish(int sync);
  Flattened(const Flattened&) = delete;
  Flattened& operator=(const Flattened&) = delete;

  [[nodiscard]] ChildPlan* child() { return &child_; }
  // CLONE_NEW* for clone3; the cgroup namespace is made later, by the child.
  [[nodiscard]] std::uint64_t clone_flags() const { return clone_flags_; }
  // To be joined by the cloning process itself before it clones: setns(2) moves only its children there.
  [[nodiscard]] const std::vector<JoinedNamespace>& joined_by_parent() const { return joined_by_parent_; }
  // The user namespace that the new namespaces are to belong to, or -1: whoever clones has to be in it
  // already.
  [[nodiscard]] int owner_of_namespaces() const { return owner_of_namespaces_; }
  // Reads the plan's command, environment and working directory (again: HeldLaunch).
  Result<void> set_program();
  // Makes a pipe that is to be a standard stream the container's.
  void give_pipe(int descriptor) const;
  // For the child that is in its user namespace now, with its maps written, and waits.
  Result<void> map_ids(pid_t child);
  [[nodiscard]] const std::vector<std::string>& unmapped() const { return prepared_.unmapped(); }
  // See PreparedRoot; once the child is at its program.
  [[nodiscard]] Fd take_memory() { return prepared_.take_memory(); }

 private:
  explicit Flattened(const LaunchPlan& plan) : plan_(plan) {}
  Result<void> add_namespaces();
  Result<void> add_root();
  Result<rootfs::ChildMount> add_mount(const Mount& mount, const rootfs::IdMaps& maps,
                                       std::set<const void*>& made);
  Result<void> add_stdio();
  void add_names_and_limits();
  void add_credentials();
  void add_unneeded_descriptors();
  const char* text(std::string value) { return texts_.emplace_back(std::move(value)).c_str(); }

  const LaunchPlan& plan_;
  ChildPlan child_;
  std::uint64_t clone_flags_ = 0;
  int owner_of_namespaces_ = -1;
  rootfs::PreparedRoot prepared_;
  std::deque<Fd> descriptors_;
  std::deque<std::string> texts_;
  std::vector<JoinedNamespace> joined_, joined_by_parent_;
  std::vector<rootfs::ChildMount> mounts_;
  std::vector<rootfs::ChildDevice> devices_;
  std::vector<rootfs::ChildLink> links_;
  std::vector<rootfs::ChildSysctl> sysctls_;
  std::vector<std::string> bare_mounts_;
  std::vector<const char*> bare_, masked_, read_only_, argv_, environment_, group_names_;
  std::vector<ChildLimit> limits_;
  std::vector<unsigned long> initial_cpus_, final_cpus_, memory_nodes_;
  std::vector<DescriptorRange> unneeded_;
  SchedulerAttributes scheduler_{};
  sock_fprog filter_{};
};

}  // namespace fastdock::launch
