// A launch that stops short of its execve, and goes on when there is a program for it: a warm pool's.
#pragma once

#include <unistd.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "launch/conversation.h"
#include "launch/flatten.h"
#include "launch/launch.h"
#include "launch/plan.h"

namespace fastdock::launch {

// What is decided only when the container is used.
struct HeldProgram {
  std::vector<std::string> argv;
  std::vector<std::string> environment;  // "NAME=value", in place of the plan's of that name or beside them
  std::string working_directory;         // empty: the plan's
  std::array<int, 3> stdio = {0, 1, 2};  // the caller's descriptors
};

// The child shares this process's memory (launch.h) and waits for its word.  It is not where anybody could
// reach it: its namespaces are new, and nothing runs in them.  It dies with this process.
class HeldLaunch {
 public:
  // Returns when all is done but execve.  EINVAL: this plan's child would have to run from memory of its own
  // (host ids, joined namespaces), or has a terminal.
  // `in_filter`: the plan's seccomp filter is known to allow what is left to do (fastdock's own is), and is
  // loaded before: the kernel compiles it for 0.15 ms.
  static Result<std::unique_ptr<HeldLaunch>> begin(LaunchPlan plan, bool in_filter, Observer observer = {});
  // Ends the child that was not used, in the process that made it.
  ~HeldLaunch();
  HeldLaunch(const HeldLaunch&) = delete;
  HeldLaunch& operator=(const HeldLaunch&) = delete;

  [[nodiscard]] pid_t pid() { return conversation_->child().pid; }
  [[nodiscard]] int pidfd() { return conversation_->child().pidfd.get(); }

  // As launch() from here on.  Once; whatever it returns, the process is no longer this one's to end.
  Result<Process> go(HeldProgram program);

 private:
  HeldLaunch(LaunchPlan plan, Observer observer) : plan_(std::move(plan)), observer_(std::move(observer)) {}
  void take(HeldProgram& program);

  LaunchPlan plan_;
  Observer observer_;
  std::unique_ptr<Flattened> flat_;
  std::optional<Conversation> conversation_;
  const pid_t owner_ = ::getpid();
  bool gone_ = false;
};

}  // namespace fastdock::launch
