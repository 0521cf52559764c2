// Freezing, killing and removing a cgroup.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/path.h"
#include "cgroup/cgroup.h"
#include "cgroup/exits.h"
#include "cgroup/files.h"
#include "cgroup/parse.h"
#include "cgroup/tree.h"

namespace fastdock::cgroup {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kFreezePatience{5000};

Result<void> write_control(Operation operation, const std::string& file, const char* value) {
  auto written = write_file(file, value);
  if (written) return {};
  return failed_with(written.error().number, operation, file);
}

}  // namespace

Result<std::vector<pid_t>> Cgroup::processes() const {
  auto directory = any_directory();
  if (!directory) return std::vector<pid_t>{};
  return processes_in(*directory);
}

Result<void> Cgroup::freeze(bool frozen) const {
  // v2's freezer, on a hybrid machine too: it tells when it is done, and a frozen process can be killed.
  if (std::string directory = unified_directory(); !directory.empty()) {
    Files files(directory);
    FASTDOCK_CHECK(write_control(Operation::kFreezeCgroup, files.path("cgroup.freeze"), frozen ? "1" : "0"));
    auto done = wait_for_event(files.path("cgroup.events"), "frozen", frozen ? 1 : 0,
                               steady_clock::now() + kFreezePatience);
    if (done) return {};
    if (frozen) (void)write_file(files.path("cgroup.freeze"), "0");
    return failed_with(done.error().number, Operation::kFreezeCgroup, directory);
  }
  if (is_nowhere()) return failed_with(EACCES, Operation::kFreezeCgroup, path_, Hint::kNotDelegated);
  std::string directory = directory_for(Controller::kFreezer);
  if (directory.empty()) return failed_with(ENOENT, Operation::kFreezeCgroup, path_, Hint::kControllerAbsent);
  return freeze_v1(directory, frozen);
}

// v1 tells no one when it is done; reading freezer.state is what moves it from FREEZING to FROZEN
// (Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst).  A process that forks or is being moved can
// stay FREEZING until FROZEN is written again.
Result<void> Cgroup::freeze_v1(const std::string& directory, bool frozen) const {
  Files files(directory);
  std::string file = files.path("freezer.state");
  const char* wanted = frozen ? "FROZEN" : "THAWED";
  auto deadline = steady_clock::now() + kFreezePatience;
  for (int attempt = 0;; ++attempt) {
    FASTDOCK_CHECK(write_control(Operation::kFreezeCgroup, file, wanted));
    FASTDOCK_TRY(std::string state, files.read("freezer.state"));
    if (state.starts_with(wanted)) return {};
    if (steady_clock::now() >= deadline) break;
    if (attempt > 8) ::usleep(100);  // the first rounds succeed unless a process is in a long system call
  }
  if (frozen) (void)write_file(file, "THAWED");
  return failed_with(ETIMEDOUT, Operation::kFreezeCgroup, directory);
}

Result<bool> Cgroup::is_frozen() const {
  if (std::string directory = unified_directory(); !directory.empty()) {
    FASTDOCK_TRY(std::string text, Files(directory).read("cgroup.events"));
    if (value_of(parse_flat_keyed(text), "frozen") == 1) return true;
  }
  std::string directory = directory_for(Controller::kFreezer);
  if (directory.empty() || !Files(directory).has("freezer.state")) return false;
  FASTDOCK_TRY(std::string state, Files(directory).read("freezer.state"));
  return state.starts_with("FROZEN");
}

Result<void> Cgroup::kill_all(milliseconds patience) const {
  auto deadline = steady_clock::now() + patience;
  auto found = any_directory();
  if (!found) return {};
  const std::string& members = *found;
  std::string unified = unified_directory();
  // cgroup.kill (5.14) takes all of them at once, also those being forked.
  bool at_once = !unified.empty() && write_file(unified + "/cgroup.kill", "1");
  if (at_once) (void)wait_for_event(unified + "/cgroup.events", "populated", 0, deadline);
  while (true) {
    FASTDOCK_TRY(std::vector<pid_t> left, processes_in(members));
    if (left.empty()) return {};
    if (steady_clock::now() >= deadline) return failed_with(ETIMEDOUT, Operation::kKillCgroup, path_);
    // One by one: frozen, so that none forks meanwhile; thawed, because v1 lets nothing die frozen (also
    // where it was paused before).
    bool frozen = freeze(true).has_value();
    auto killed = kill_once(members);
    if (frozen) FASTDOCK_CHECK(freeze(false));
    if (!killed) return killed;
    FASTDOCK_CHECK(wait_for_exits(members, std::min(deadline, steady_clock::now() + milliseconds(200))));
  }
}

Result<void> Cgroup::remove(milliseconds patience) const {
  auto deadline = steady_clock::now() + patience;
  Result<void> result;
  for (const Hierarchy& hierarchy : hierarchies_->all()) {  // v1 first: v2 can tell when it is empty
    if (hierarchy.base.empty()) continue;
    auto removed = remove_cgroup(directory_of(hierarchy, path_), deadline);
    if (!removed && result) result = removed;
  }
  return result;
}

}  // namespace fastdock::cgroup
