// Into the namespaces of an ordinary user, where it is root over its own ids: what makes `fastdock run` work
// without root.  One process for each user, the holder (holder/main.cpp), keeps them.
#pragma once

#include <string>

#include "base/error.h"

namespace fastdock::rootless {

struct Entered {
  int holder = 0;      // its process
  std::string way;     // "pasta", "slirp4netns"; empty: no network namespace was entered
  std::string reason;  // why there is none
};

// Moves this process into the user, mount and (where there is a way out of it) network namespace of its user;
// the working directory stays.  Starts the holder, `program`, where none runs for `run_directory`, which must
// be this user's alone.  EINVAL kProcessHasThreads; EPERM kUserNamespaceForbidden.
// `network` false: the network stays the host's.
Result<Entered> enter(const std::string& run_directory, const std::string& program, bool network = true);

// One request to the holder that runs, and its answer (protocol.h).
Result<std::string> ask(const std::string& run_directory, const std::string& request);

}  // namespace fastdock::rootless
