// A container from its start to its end: directories, ids, cgroup and process, made together and removed
// together.  What is on disk is described in ARCHITECTURE.md, "What is on disk".
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/fd.h"
#include "cgroup/cgroup.h"
#include "launch/held.h"
#include "launch/ids.h"
#include "launch/launch.h"
#include "launch/plan.h"
#include "launch/session.h"

namespace fastdock::launch {

struct ContainerOptions {
  std::string id;  // Session::new_id(); empty: one is made
  cgroup::Limits limits;
  bool own_ids =
      true;  // a range of its own; the plan then has a new user namespace, and its maps are filled in
  bool in_memory = true;        // what it writes is kept in memory, not on disk: faster, and gone with it
  bool keep_memory = false;     // and process().memory is kept open, for those who want to look at it
  bool held_in_filter = false;  // of a prepared one: see HeldLaunch
};

class Container {
 public:
  // Starts `plan` (a copy: the container's own directories, ids and cgroup are filled in).  On failure
  // nothing is left.
  static Result<std::unique_ptr<Container>> start(std::shared_ptr<Session> session, LaunchPlan plan,
                                                  const ContainerOptions& options,
                                                  const Observer& observer = {});
  // The same but for the execve: begin() does that, with what is known only then.  The plan's command is not
  // used.
  static Result<std::unique_ptr<Container>> prepare(std::shared_ptr<Session> session, LaunchPlan plan,
                                                    const ContainerOptions& options, Observer observer = {});
  // Starts a prepared one's program.  Once.  On failure the container is of no more use.
  Result<void> begin(HeldProgram program);
  // Kills what still runs, and removes everything; but in a process that fork(2) has made of its owner
  // nothing: there the container is not its own.
  ~Container();
  Container(const Container&) = delete;
  Container& operator=(const Container&) = delete;

  [[nodiscard]] const std::string& id() const { return id_; }
  [[nodiscard]] const Process& process() const { return process_; }
  Process& process() { return process_; }
  // Its first process, also of a prepared one.
  [[nodiscard]] pid_t pid() const { return held_ ? held_->pid() : process_.pid; }
  [[nodiscard]] const std::vector<std::string>& warnings() const { return warnings_; }

  // Nothing when the time (milliseconds, -1: for ever) is up.  May be called again, also after the end.
  Result<std::optional<ExitStatus>> wait(int timeout_ms);
  Result<void> kill(int signal);
  [[nodiscard]] const cgroup::Cgroup* cgroup() const { return cgroup_ ? &*cgroup_ : nullptr; }

  // After the end: what it used.  Then removes everything; the destructor does the same without the answer.
  Result<cgroup::Usage> finish();

 private:
  Container(std::shared_ptr<Session> session, const ContainerOptions& options);
  static Result<std::unique_ptr<Container>> make(std::shared_ptr<Session> session, LaunchPlan& plan,
                                                 const ContainerOptions& options);
  void launched();
  Result<void> make_directories(LaunchPlan& plan);
  Result<void> make_directory_for(Mount& mount, int number);
  Result<void> make_cgroup(LaunchPlan& plan);
  Result<void> remove();

  std::shared_ptr<Session> session_;
  ContainerOptions options_;
  std::string id_, directory_;
  std::unique_ptr<IdRange> ids_;
  std::optional<cgroup::Cgroup> cgroup_;
  cgroup::Join join_;
  Process process_;
  std::unique_ptr<HeldLaunch> held_;  // until begin()
  std::mutex status_mutex_;
  std::optional<ExitStatus> status_;
  std::vector<std::string> warnings_;
  const pid_t owner_;
  bool has_directory_ = false;
  bool ends_with_first_ = false;
};

}  // namespace fastdock::launch
