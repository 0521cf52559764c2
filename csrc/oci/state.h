// A container between two commands: <root>/<id>/ with state.json, a copy of config.json, and start.fifo while
// it waits for `start`.  Written whole and renamed, so that readers need no lock; who changes a container
// holds the lock on its directory.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/fd.h"
#include "oci/config.h"

namespace fastdock::oci {

enum class Status : std::uint8_t { kCreating, kCreated, kRunning, kPaused, kStopped };
std::string_view name_of(Status status);

struct State {
  std::string version, id;
  pid_t pid = 0;
  std::uint64_t start_time = 0;  // of the process, in clock ticks since boot: says whether a pid is still it
  std::string bundle, rootfs, created, owner;
  std::string cgroup;        // as Cgroup::open takes it; empty: none
  std::string systemd_unit;  // with --systemd-cgroup
  std::uint64_t root_mount =
      0;  // without a mount namespace: of the mount on the host that all its others are in
  Annotations annotations;
};

class Container {
 public:
  // Makes the directory.  EEXIST: there is a container of this name.
  static Result<Container> create(const std::string& root, const std::string& id);
  // ENOENT: no such container.  EPROTO: the state is of another version, or damaged.
  static Result<Container> open(const std::string& root, const std::string& id);
  // One whose state is missing or damaged, to be removed: what is known is its directory.
  static Result<Container> open_damaged(const std::string& root, const std::string& id);

  State state;
  [[nodiscard]] const std::string& directory() const { return path_; }
  [[nodiscard]] std::string fifo() const { return path_ + "/start.fifo"; }
  [[nodiscard]] std::string config_file() const { return path_ + "/config.json"; }

  // Waits for it; held until this goes.
  Result<void> lock();
  void unlock() const;
  Result<void> save() const;
  Result<void> save_config(std::string_view text) const;
  Result<void> make_fifo() const;
  Result<void> remove() const;

  // Of a container that was being created when it was opened, the state is read again.
  [[nodiscard]] Status status();
  // A descriptor of the process; ESRCH: it has ended.
  [[nodiscard]] Result<Fd> process() const;
  [[nodiscard]] bool process_lives() const;

 private:
  Container(std::string path, Fd directory) : path_(std::move(path)), directory_(std::move(directory)) {}
  Result<void> load();

  std::string path_;
  Fd directory_;
};

// `state` prints it indented, `list` in one line (as runc); hooks and agents get a shorter one.
enum class StateFor : std::uint8_t { kState, kList, kHooks };
std::string state_json(const State& state, Status status, StateFor reader);

// Letters, digits and _+-. ; no "." and "..".
Result<void> check_id(const std::string& id);

// The start of a process in clock ticks, 0 when there is none or it is a zombie.  proc_pid_stat(5).
std::uint64_t start_time_of(pid_t pid);

// "2026-11-24T08:05:24.123456789Z"
std::string timestamp();

// Writes a new file beside `path` and renames it.
Result<void> write_whole(const std::string& path, std::string_view text, mode_t mode);

}  // namespace fastdock::oci
