#include "monitor/places.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "base/path.h"
#include "cgroup/cgroup.h"
#include "launch/ids.h"
#include "monitor/json.h"
#include "monitor/state.h"

namespace fastdock::monitor {
namespace {

constexpr int kKilled = 137;
constexpr int kLockAttempts = 2000;  // milliseconds

Result<std::vector<std::string>> names_in(const std::string& path) {
  std::vector<std::string> names;
  std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir(path.c_str()), ::closedir);
  if (!stream && errno == ENOENT) return names;
  if (!stream) return failed(Operation::kListDirectory, path);
  while (const dirent* entry = ::readdir(stream.get()))
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  return names;
}

bool is_there(int directory) {
  struct stat status{};
  return ::fstat(directory, &status) == 0 && status.st_nlink > 0;
}

// The value of a member that is a string without escapes, as to_json writes times.
std::string member(const std::string& json, const std::string& name) {
  std::string key = '"' + name + "\":\"";
  auto begin = json.find(key);
  if (begin == std::string::npos) return "";
  begin += key.size();
  return json.substr(begin, json.find('"', begin) - begin);
}

std::string killed_state(const std::string& before) {
  State state;
  state.status = Status::kExited;
  state.exit_code = kKilled;
  state.error = "the monitor was killed";
  state.finished = now();
  std::string json = to_json(state);
  std::string started = member(before, "started_at");
  std::string zero = R"("started_at":"0001-01-01T00:00:00Z")";
  if (!started.empty() && started.find('\\') == std::string::npos)
    json.replace(json.find(zero), zero.size(), R"("started_at":")" + started + '"');
  return json;
}

Result<void> repair_one(const Places& places, const std::string& id) {
  FASTDOCK_CHECK(remove_cgroup(places, id));
  std::string state = state_directory(places, id);
  std::string run = run_directory(places, id);
  struct stat status{};
  if (::stat(state.c_str(), &status) == 0) {
    auto durable = read_file(state + "/state.json");
    // The monitor may have died between the record of the end and its own.
    bool recorded = durable && member(*durable, "status") == "exited";
    auto live = read_file(run + "/state.json");
    if (live && member(*live, "status") != "exited" &&
        !(recorded && member(*durable, "started_at") == member(*live, "started_at")))
      FASTDOCK_CHECK(write_state(state, killed_state(*live), true));
  }
  return remove_tree(AT_FDCWD, run);
}

}  // namespace

std::string state_directory(const Places& places, const std::string& id) {
  return places.state + "/containers/" + id;
}
std::string run_directory(const Places& places, const std::string& id) {
  return places.run + "/containers/" + id;
}

Result<int> reserve_ids(const Places& places, const std::string& id) {
  std::string reserved = places.state + "/ids";
  FASTDOCK_CHECK(make_directories(reserved, 0700));
  // Locked until the file is there; then the file says it, and the lock is let go, not kept for this process.
  FASTDOCK_TRY(auto range, launch::take_ids(places.run, reserved));
  std::string path = reserved + "/" + std::to_string(range->number());
  FASTDOCK_TRY(Fd file, open_file(path, O_WRONLY | O_CREAT | O_EXCL, 0600));
  if (::write(file.get(), id.data(), id.size()) != static_cast<ssize_t>(id.size())) {
    auto error = failed(Operation::kWriteFile, path, errno == ENOSPC ? Hint::kNoSpace : Hint::kNone);
    ::unlink(path.c_str());
    return error;
  }
  return static_cast<int>(range->number());
}

void release_ids(const Places& places, int number) {
  if (number >= 0) ::unlink((places.state + "/ids/" + std::to_string(number)).c_str());
}

Result<Fd> take_run_directory(const Places& places, const std::string& id) {
  std::string path = run_directory(places, id);
  for (int attempt = 0;; ++attempt) {
    FASTDOCK_CHECK(make_directories(path, 0700));
    auto directory = open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!directory && directory.error().number == ENOENT) continue;
    if (!directory) return directory;
    if (::flock(directory->get(), LOCK_EX | LOCK_NB) == 0) {
      if (is_there(directory->get())) return directory;
      continue;
    }
    // Somebody in repair() has it for a moment; or a monitor has, and then there is its socket.
    bool monitored = ::faccessat(directory->get(), "control", F_OK, 0) == 0;
    if (errno == EINTR && !monitored) continue;
    if (monitored || attempt >= kLockAttempts) return failed_with(EBUSY, Operation::kLockFile, path);
    ::poll(nullptr, 0, 1);
  }
}

Result<void> remove_cgroup(const Places& places, const std::string& id) {
  FASTDOCK_TRY(auto hierarchies, cgroup::Hierarchies::machine());
  auto group = cgroup::Cgroup::open(*hierarchies, places.cgroup_parent + "/" + id);
  if (!group) return {};
  FASTDOCK_CHECK(group->kill_all());
  return group->remove();
}

Result<std::vector<std::string>> repair(const Places& places) {
  std::vector<std::string> repaired;
  FASTDOCK_TRY(auto ids, names_in(places.run + "/containers"));
  for (const std::string& id : ids) {
    auto directory = open_file(run_directory(places, id), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!directory) continue;
    if (::flock(directory->get(), LOCK_EX | LOCK_NB) != 0 || !is_there(directory->get())) continue;
    FASTDOCK_CHECK(repair_one(places, id));
    repaired.push_back(id);
  }
  if (!repaired.empty()) launch::remove_own_parent(places);
  return repaired;
}

Result<std::map<std::string, std::string>> live_states(const Places& places) {
  std::map<std::string, std::string> states;
  FASTDOCK_TRY(auto ids, names_in(places.run + "/containers"));
  for (const std::string& id : ids) {
    auto state = read_file(run_directory(places, id) + "/state.json");
    // Otherwise it has just ended, or has not started yet: its directory on the disk says so.
    if (state) states.emplace(id, std::move(*state));
  }
  return states;
}

}  // namespace fastdock::monitor
