// launch(plan): the hot path.  A LaunchPlan in, a running process out.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "launch/plan.h"

namespace fastdock::launch {

class Flattened;

struct Process {
  pid_t pid = -1;
  Fd pidfd;
  Fd terminal;                        // the plan's terminal, our side
  Fd memory;                          // the tmpfs with the root's upper/, where that is in memory
  Fd seccomp_listener;                // with SECCOMP_FILTER_FLAG_NEW_LISTENER
  std::vector<std::string> unmapped;  // binds whose file system cannot map ids
};

// Called in the parent while the child waits.  An error ends the child and becomes launch()'s.
struct Observer {
  // It exists, and waits before it does anything: in no cgroup and no joined namespace yet.
  std::function<Result<void>(pid_t)> cloned;
  // The new namespaces exist (/proc/PID/ns/*); those to join may not be joined yet.  The child goes on
  // meanwhile: what is done here overlaps with its mounts, and is complete before execve.
  std::function<Result<void>(pid_t)> created;
  std::function<Result<void>(pid_t)> mounted;  // the root is built but not yet entered
  std::function<Result<void>(pid_t)> ready;    // all is done but execve
  // The seccomp listener is there.  The child goes on at once, and may need whoever holds it to get to its
  // execve; so it is passed on here, not after launch().  Without this it comes back in Process.
  std::function<Result<void>(pid_t, Fd)> listening;
  // Runs its argument, which makes the clone: for a child that is to die with another thread than the
  // caller's (launcher_thread.h).
  std::function<void(const std::function<void()>&)> cloning;
  // Gives what `cloning` has begun already, so that it overlaps with other work (Flattened::begin).
  std::function<Result<std::unique_ptr<Flattened>>()> begun;
};

// Starts the process and returns when it has called execve (or waits at its start FIFO), or with the one
// error that stopped it; then nothing of it is left.  The caller's memory is shared with the child until
// execve, so the cost does not grow with the caller's size.
//
// Where the child could be reached by what runs in a container before its execve (host user ids, or
// joined namespaces), or must not share this process's (an oom_score_adj), the clone is made by the native
// helper from a sealed memfd instead: CVE-2019-5736.
Result<Process> launch(const LaunchPlan& plan, const Observer& observer = {});

struct ExitStatus {
  int code = 0;    // as a shell gives it: the exit code, or 128 + signal
  int signal = 0;  // 0: it exited
};

// Waits for the end, at most `timeout_ms` (-1: for ever); nothing when the time is up.  Once only.
Result<std::optional<ExitStatus>> wait(const Process& process, int timeout_ms);

Result<void> send_signal(const Process& process, int signal);

}  // namespace fastdock::launch
