// The parent's side of a launch, from the clone to the child's execve.
#pragma once

#include <array>
#include <optional>

#include "base/clone.h"
#include "base/error.h"
#include "base/fd.h"
#include "launch/flatten.h"
#include "launch/launch.h"

namespace fastdock::launch {

struct Sockets {
  Fd ours, theirs;
};
Result<Sockets> make_sockets();

// The points at which the child is to wait for what this observer does: a bit for each SyncPoint.
std::uint32_t sync_points(const Observer& observer);

class Conversation {
 public:
  // `plan` and `observer` must outlive it.
  Conversation(const LaunchPlan& plan, const Observer& observer, Fd socket)
      : plan_(plan), observer_(observer), socket_(std::move(socket)) {}

  // `flat`: where it was made here, what is left to do when there is a child.
  void begin(Child child, Flattened* flat = nullptr);

  // Until the program runs, or waits at its start FIFO; or the one error that stopped it, and no child.
  Result<Process> run();

  // Until all is done but execve, for a child that is held there (ChildPlan::held): go() lets it go on, with
  // these standard streams, and run() comes next.
  Result<void> run_until_held();
  Result<void> go(const std::array<int, 3>& streams);
  Child& child() { return child_; }

 private:
  struct Received;
  Result<std::optional<Received>> receive();
  // Until `done`, or the child's end.
  Result<void> listen(const bool& done);
  Result<void> greet();
  Result<void> answer();
  void handle(Received& received);
  void answer_after(Result<void> done);
  Result<void> map_ids(int number, const Fd& tree);
  void listening(Fd listener);
  void fail(Error error);

  const LaunchPlan& plan_;
  const Observer& observer_;
  Fd socket_;
  Flattened* flat_ = nullptr;
  Child child_;
  Process process_;
  std::optional<Error> error_;
  bool waiting_ = false;
  bool held_ = false;
};

}  // namespace fastdock::launch
