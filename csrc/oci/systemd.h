// The systemd cgroup driver: a container's cgroup is a scope, which systemd makes and knows
// (--systemd-cgroup).
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "base/error.h"
#include "cgroup/cgroup.h"
#include "dbus/connection.h"
#include "oci/config.h"
#include "oci/state.h"
#include "oci/systemd_properties.h"

namespace fastdock::oci {

// The machine's systemd is root's to use; everybody else, and who is root of a user namespace only, has their
// own (systemd --user).
bool has_own_systemd();

// systemd's manager, org.freedesktop.systemd1(5).
class Systemd {
 public:
  // The one that has_own_systemd() says.  ENOSYS: no systemd runs here, or it cannot be reached; the error
  // says which.
  static Result<Systemd> connect();

  // The number of its version; 0: it does not say.
  [[nodiscard]] unsigned version();
  // Makes the scope and waits until systemd has done so; its cgroup, as Cgroup::open takes it.
  // EEXIST: there is a unit of this name.
  Result<std::string> start_scope(const std::string& unit, const Properties& properties);
  // Until the next start of the unit.
  Result<void> set_properties(const std::string& unit, const Properties& properties);
  // Moves a process into the unit's cgroup, or the one `below` it ("", "/a/b").  The user's own systemd asks
  // the machine's to do it where the user may not.
  Result<void> attach(const std::string& unit, const std::string& below, pid_t process);
  // Ends what is in it and waits; one that is gone is success.
  Result<void> stop(const std::string& unit);

 private:
  explicit Systemd(dbus::Connection connection) : connection_(std::move(connection)) {}
  Result<dbus::Message> call(const std::string& member, const std::string& signature, std::string body);
  Result<std::string> property(const std::string& path, const std::string& interface,
                               const std::string& name);
  // The end of a job of the unit: calls, and waits for the signal that names the job that the answer named.
  Result<void> run_job(const std::string& unit, const std::string& member, const std::string& signature,
                       std::string body);
  Result<void> watch_jobs_of(const std::string& unit);
  Result<std::string> result_of_job(const dbus::Message& answer);

  dbus::Connection connection_;
  std::vector<dbus::Message> removed_;  // signals that came before they were asked for
};

// A scope that is being filled.  systemd makes none without a process, and the cgroup must be there before
// the container's first process is cloned into it (its cgroup namespace and its mounts name it).  So a
// process of ours holds the scope open meanwhile.
class NewScope {
 public:
  static Result<NewScope> start(const Config& config, const std::string& id, cgroup::Version version);
  NewScope(NewScope&& other) noexcept
      : unit_(std::move(other.unit_)),
        cgroup_(std::move(other.cgroup_)),
        holder_(std::exchange(other.holder_, 0)) {}
  NewScope& operator=(NewScope&& other) noexcept;
  NewScope(const NewScope&) = delete;
  NewScope& operator=(const NewScope&) = delete;
  ~NewScope() { let_go(); }

  [[nodiscard]] const std::string& unit() const { return unit_; }
  [[nodiscard]] const std::string& cgroup() const { return cgroup_; }
  // Ends our process: the container's is in there, or there will be none.
  void let_go();

 private:
  NewScope() = default;

  std::string unit_, cgroup_;
  pid_t holder_ = 0;
};

// Limits of a container that has a scope.
Result<void> update_scope(const std::string& unit, const cgroup::Limits& limits, cgroup::Version version);
Result<void> stop_scope(const std::string& unit);
Result<void> attach_to_scope(const std::string& unit, const std::string& below, pid_t process);
// A scope of a user's, into which the user may move no process: a session of theirs is a scope of the
// machine's systemd, with nothing of their own above both.  Makes it one that cgroup/ can use.
Result<bool> scope_is_out_of_reach(const State& state);

}  // namespace fastdock::oci
