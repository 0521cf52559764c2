// A container without a mount namespace: its root and mounts are in the caller's, for all to see.
//
// They are all below one mount, a bind of the root's directory on itself, which is private, so that nothing
// below it reaches another mount namespace.  Detaching that one detaches all.  runc makes them the same way,
// but leaves them there, and changes the propagation of the host's root.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/fd.h"
#include "oci/config.h"
#include "oci/state.h"

namespace fastdock::oci {

bool is_on_host(const Config& config);

class HostRoot {
 public:
  // Makes the mount, detached: who is killed now leaves nothing.  EINVAL: `directory` is the host's root.
  static Result<HostRoot> make(const std::string& directory);
  // As /proc/PID/mountinfo has it.
  [[nodiscard]] std::uint64_t id() const { return id_; }
  Result<void> attach();

 private:
  HostRoot(std::string directory, Fd mount, std::uint64_t id)
      : directory_(std::move(directory)), mount_(std::move(mount)), id_(id) {}

  std::string directory_;
  Fd mount_;
  std::uint64_t id_;
};

// Takes the mount away, with all that lies in and over it; none is success.
Result<void> detach_host_root(const State& state);

// The root directory of the container's process, for what is to join it: no namespace tells it.
std::string root_of(pid_t process);

}  // namespace fastdock::oci
