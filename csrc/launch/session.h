// A session: the containers that one process owns while it lives.
//
// It is a directory of the run directory with a file that its process locks; every id of its containers ends
// in its name.  So a container that is thrown away needs no record of its own, and what a process killed with
// SIGKILL leaves behind is found by whoever comes next: remove_abandoned().
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/fd.h"

namespace fastdock::launch {

// Where the state is: see ARCHITECTURE.md, "What is on disk".
struct Places {
  std::string state;          // /var/lib/fastdock
  std::string run;            // /run/fastdock
  std::string cgroup_parent;  // "fastdock"
};

// A name that nothing else has: two digits a byte, at most 32 bytes.
std::string random_hex(std::size_t bytes);

class Session {
 public:
  // This process's session there; made at the first call, and anew after fork(2).
  static Result<std::shared_ptr<Session>> current(const Places& places);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  [[nodiscard]] const Places& places() const { return places_; }
  // 64 hexadecimal digits, the last 24 those of the session.
  [[nodiscard]] std::string new_id() const;
  // A container could not be removed: whoever comes after this process is to do it.
  void keep_for_repair() { has_leftovers_ = true; }

 private:
  explicit Session(Places places) : places_(std::move(places)) {}
  Result<void> begin();

  Places places_;
  std::string name_;
  Fd lock_;
  pid_t owner_ = -1;
  std::atomic<bool> has_leftovers_ = false;
};

// Ends and removes what dead sessions left: processes, cgroups, directories.  Returns how many sessions.
Result<int> remove_abandoned(const Places& places);

// The cgroup that a state directory other than the main one has of its own, and which would outlive it: to be
// called when something in it has gone.  Stays where there is still something.
void remove_own_parent(const Places& places);

}  // namespace fastdock::launch
