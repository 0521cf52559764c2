// Making and removing the directories of one hierarchy.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "cgroup/hierarchies.h"

namespace fastdock::cgroup {

// The directories that a call has made; removed again, newest first, unless it is kept.
class Made {
 public:
  Made() = default;
  Made(const Made&) = delete;
  Made& operator=(const Made&) = delete;
  ~Made();
  void add(std::string directory) { directories_.push_back(std::move(directory)); }
  void keep() { directories_.clear(); }

 private:
  std::vector<std::string> directories_;
};

// Makes the directory of `path` and what is missing above it.  In a v1 cpuset hierarchy every new
// directory inherits its parent's processors and memory nodes.  A directory that is there already is taken
// if it holds no process (EEXIST otherwise) or may be `occupied`.
Result<void> make_cgroup(const Hierarchy& hierarchy, std::string_view path, Made& made,
                         bool occupied = false);

// v2: sees to it that the cgroup has the controllers `wanted`, from the top down; fails only for those
// that are `required`.
Result<void> offer_controllers(const Hierarchy& hierarchy, std::string_view path, ControllerSet wanted,
                               ControllerSet required);

// Removes the directory and those below it, waiting until `deadline` for processes that are dying.  EBUSY:
// there are still some.  A missing directory is success.
Result<void> remove_cgroup(const std::string& directory, std::chrono::steady_clock::time_point deadline);

// Removes the cgroup where it is empty: nobody needs it now, and who does later makes it again.
void remove_if_empty(const Hierarchies& hierarchies, std::string_view path);

// EINVAL unless the path is one of a cgroup: not empty, no "..", no control characters.
Result<void> check_path(std::string_view path);

// Directories directly below, by name.
Result<std::vector<std::string>> children_of(const std::string& directory);

}  // namespace fastdock::cgroup
