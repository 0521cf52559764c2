#include <linux/close_range.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "oci/systemd.h"

namespace fastdock::oci {
namespace {

// Waits for its end in the scope; goes with us, however we end, and then systemd takes the scope away.
[[noreturn]] void hold_scope(pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(0);
  ::close_range(0, ~0U, 0);
  sigset_t none;
  sigemptyset(&none);
  struct sigaction normal{};
  normal.sa_handler = SIG_DFL;
  ::sigaction(SIGTERM, &normal, nullptr);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  while (true) ::pause();
}

// As runc (libcontainer/cgroups/systemd): what it sets on every scope.
void add_frame(const ScopePlace& place, const std::string& id, pid_t process, cgroup::Version version,
               Properties& properties) {
  properties.text("Description", "fastdock-oci container " + id);
  properties.text("Slice", place.slice);
  // What is below is the container's: systemd keeps its hands off.
  properties.boolean("Delegate", true);
  properties.process_ids("PIDs", {static_cast<std::uint32_t>(process)});
  for (const char* name : {"MemoryAccounting", "CPUAccounting", "TasksAccounting"})
    properties.boolean(name, true);
  properties.boolean(version == cgroup::Version::kV2 ? "IOAccounting" : "BlockIOAccounting", true);
  // Else it would be stopped early at the machine's end, and ordered after what is not there yet.
  properties.boolean("DefaultDependencies", false);
}

}  // namespace

Result<NewScope> NewScope::start(const Config& config, const std::string& id, cgroup::Version version) {
  if (has_own_systemd() && version != cgroup::Version::kV2)
    return failed_with(
        ENOSYS, Operation::kUseContainer,
        "--systemd-cgroup without root needs a machine with cgroup v2 alone: of v1 systemd lets no "
        "user have anything; set the caller's cgroup driver to cgroupfs");
  const char* slice = has_own_systemd() ? "user.slice" : "system.slice";
  FASTDOCK_TRY(ScopePlace place, scope_place(config.cgroups_path, id, slice));
  Properties properties;
  // First, so that nothing in them replaces what follows.
  FASTDOCK_CHECK(add_annotations(config.annotations, properties));
  FASTDOCK_TRY(Systemd systemd, Systemd::connect());
  NewScope scope;
  scope.unit_ = place.unit;
  const pid_t self = ::getpid();
  scope.holder_ = ::fork();
  if (scope.holder_ == 0) hold_scope(self);
  if (scope.holder_ < 0) return failed(Operation::kCloneProcess);
  add_frame(place, id, scope.holder_, version, properties);
  FASTDOCK_CHECK(add_limits(config.limits, version, systemd.version(), properties));
  FASTDOCK_TRY(scope.cgroup_, systemd.start_scope(place.unit, properties));
  return scope;
}

NewScope& NewScope::operator=(NewScope&& other) noexcept {
  if (this == &other) return *this;
  let_go();
  unit_ = std::move(other.unit_);
  cgroup_ = std::move(other.cgroup_);
  holder_ = std::exchange(other.holder_, 0);
  return *this;
}

void NewScope::let_go() {
  if (holder_ <= 0) return;
  ::kill(holder_, SIGKILL);
  while (::waitpid(holder_, nullptr, 0) < 0 && errno == EINTR) {
  }
  holder_ = 0;
}

}  // namespace fastdock::oci
