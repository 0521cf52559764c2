#include "launch/session.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <mutex>
#include <vector>

#include "base/path.h"
#include "cgroup/cgroup.h"

namespace fastdock::launch {
namespace {

constexpr std::size_t kNameBytes = 12;
constexpr std::size_t kIdBytes = 32;

std::string random_hex(std::size_t bytes) {
  unsigned char raw[kIdBytes];
  // getrandom(2): up to 256 bytes come whole, once the pool is ready.
  while (::getrandom(raw, bytes, 0) != static_cast<ssize_t>(bytes)) {
  }
  std::string text;
  for (std::size_t i = 0; i < bytes; ++i) {
    text += "0123456789abcdef"[raw[i] >> 4];
    text += "0123456789abcdef"[raw[i] & 15];
  }
  return text;
}

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

Result<std::vector<std::string>> names_in(const std::string& path) {
  std::vector<std::string> names;
  std::unique_ptr<DIR, CloseDirectory> stream(::opendir(path.c_str()));
  if (!stream) {
    if (errno == ENOENT) return names;
    return failed(Operation::kListDirectory, path);
  }
  while (const dirent* entry = ::readdir(stream.get()))
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  return names;
}

// True while this descriptor's directory is still there and the lock is ours.
bool lock_directory(int directory) {
  struct stat status {};
  return ::flock(directory, LOCK_EX | LOCK_NB) == 0 && ::fstat(directory, &status) == 0 && status.st_nlink > 0;
}

Result<void> remove_containers_of(const std::string& session, const Places& places) {
  FASTDOCK_TRY(auto hierarchies, cgroup::Hierarchies::machine());
  // The cgroups first: they have the processes.  Every hierarchy is looked at, as a crash may come between two.
  for (const cgroup::Hierarchy& hierarchy : hierarchies->all()) {
    FASTDOCK_TRY(auto ids, names_in(cgroup::directory_of(hierarchy, places.cgroup_parent)));
    for (const std::string& id : ids) {
      if (!id.ends_with(session)) continue;
      auto group = cgroup::Cgroup::open(*hierarchies, places.cgroup_parent + "/" + id);
      if (!group) continue;
      FASTDOCK_CHECK(group->kill_all());
      FASTDOCK_CHECK(group->remove());
    }
  }
  FASTDOCK_TRY(auto ids, names_in(places.state + "/containers"));
  for (const std::string& id : ids)
    if (id.ends_with(session)) FASTDOCK_CHECK(remove_tree(AT_FDCWD, places.state + "/containers/" + id));
  return {};
}

}  // namespace

Result<std::shared_ptr<Session>> Session::current(const Places& places) {
  static std::mutex mutex;
  static std::map<std::pair<std::string, std::string>, std::shared_ptr<Session>> sessions;
  std::scoped_lock guard(mutex);
  auto& session = sessions[{places.state, places.run}];
  if (!session || session->owner_ != ::getpid()) {
    std::shared_ptr<Session> made(new Session(places));
    FASTDOCK_CHECK(made->begin());
    session = std::move(made);
  }
  return session;
}

Result<void> Session::begin() {
  FASTDOCK_CHECK(make_directories(places_.run + "/sessions", 0700));
  FASTDOCK_CHECK(make_directories(places_.state + "/containers", 0700));
  while (true) {
    name_ = random_hex(kNameBytes);
    std::string path = places_.run + "/sessions/" + name_;
    if (::mkdir(path.c_str(), 0700) != 0) return failed(Operation::kCreateDirectory, path);
    auto directory = open_file(path, O_RDONLY | O_DIRECTORY);
    // Between mkdir and flock somebody may have taken this for an abandoned one and removed it.
    if (!directory || !lock_directory(directory->get())) continue;
    lock_ = std::move(*directory);
    owner_ = ::getpid();
    return {};
  }
}

Session::~Session() {
  // In a forked child this is the parent's: only the descriptor goes.  Where something could not be removed the
  // name stays, for remove_abandoned().
  if (owner_ == ::getpid() && !has_leftovers_) ::rmdir((places_.run + "/sessions/" + name_).c_str());
}

std::string Session::new_id() const { return random_hex(kIdBytes - kNameBytes) + name_; }

Result<int> remove_abandoned(const Places& places) {
  int count = 0;
  FASTDOCK_TRY(auto sessions, names_in(places.run + "/sessions"));
  for (const std::string& session : sessions) {
    std::string path = places.run + "/sessions/" + session;
    auto directory = open_file(path, O_RDONLY | O_DIRECTORY);
    if (!directory || !lock_directory(directory->get())) continue;
    FASTDOCK_CHECK(remove_containers_of(session, places));
    FASTDOCK_CHECK(remove_tree(AT_FDCWD, path));
    ++count;
  }
  return count;
}

}  // namespace fastdock::launch
