#include "launch/session.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <mutex>
#include <set>
#include <vector>

#include "base/path.h"
#include "cgroup/cgroup.h"
#include "cgroup/hierarchies.h"
#include "cgroup/tree.h"

namespace fastdock::launch {
namespace {

constexpr std::size_t kNameBytes = 12;
constexpr std::size_t kIdBytes = 32;

}  // namespace

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

namespace {

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

// A session's lock is a POSIX one, on the file `owner`: unlike flock(2)'s it is no other process's, neither
// that of a clone which has not yet closed our descriptors when we are killed, nor that of a worker forked by
// the program that embeds us.  But any close of that file by us gives it up (fcntl(2)), hence Claims.
std::string owner_file(const std::string& session) { return session + "/owner"; }

// True while this file is still there and the lock is ours; false when it is somebody else's.
Result<bool> lock_owner_file(int file) {
  struct flock whole{};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  if (::fcntl(file, F_SETLK, &whole) != 0) {
    if (errno == EAGAIN || errno == EACCES) return false;
    return failed(Operation::kLockFile, "owner");
  }
  struct stat status{};
  return ::fstat(file, &status) == 0 && status.st_nlink > 0;
}

// The sessions that a thread of this process holds or looks at: the others keep off.
class Claims {
 public:
  static bool take(const std::string& session) {
    std::scoped_lock guard(mutex());
    return claimed().emplace(session, ::getpid()).second;
  }
  static void give_back(const std::string& session) {
    std::scoped_lock guard(mutex());
    claimed().erase({session, ::getpid()});
  }

 private:
  static std::mutex& mutex() {
    static auto* instance = new std::mutex;
    return *instance;
  }
  static std::set<std::pair<std::string, pid_t>>& claimed() {  // by process: a forked child holds none
    static auto* instance = new std::set<std::pair<std::string, pid_t>>;
    return *instance;
  }
};

// A claim while it is in scope.
class Claim {
 public:
  explicit Claim(std::string session) : session_(std::move(session)), taken_(Claims::take(session_)) {}
  ~Claim() {
    if (taken_) Claims::give_back(session_);
  }
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;
  explicit operator bool() const { return taken_; }
  void keep() { taken_ = false; }

 private:
  std::string session_;
  bool taken_;
};

Result<void> remove_containers_of(const std::string& session, const Places& places) {
  FASTDOCK_TRY(auto hierarchies, cgroup::Hierarchies::machine());
  // The cgroups first: they have the processes.  Every hierarchy is looked at, as a crash may come between
  // two.
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
  // What it wrote, and its /etc/hosts and the like (unbridged.py).
  for (const std::string& directory : {places.state + "/containers", places.run + "/names"}) {
    FASTDOCK_TRY(auto ids, names_in(directory));
    for (const std::string& id : ids)
      if (id.ends_with(session)) FASTDOCK_CHECK(remove_tree(AT_FDCWD, directory + "/" + id));
  }
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
    Claim claim(path);
    if (::mkdir(path.c_str(), 0700) != 0) return failed(Operation::kCreateDirectory, path);
    auto file = open_file(owner_file(path), O_RDWR | O_CREAT, 0600);
    // Between mkdir and the lock somebody may have taken this for an abandoned one and removed it.
    if (!file && file.error().number == ENOENT) continue;
    auto locked = file ? lock_owner_file(file->get()) : std::unexpected(file.error());
    if (!locked) {
      (void)remove_tree(AT_FDCWD, path);
      return std::unexpected(locked.error());
    }
    if (!*locked) continue;
    lock_ = std::move(*file);
    owner_ = ::getpid();
    claim.keep();
    return {};
  }
}

Session::~Session() {
  if (owner_ != ::getpid()) return;  // in a forked child this is the parent's: only the descriptor goes
  std::string path = places_.run + "/sessions/" + name_;
  // Where something could not be removed the name stays, for remove_abandoned().
  if (!has_leftovers_) (void)remove_tree(AT_FDCWD, path);
  remove_own_parent(places_);
  lock_.reset();
  Claims::give_back(path);
}

std::string Session::new_id() const { return random_hex(kIdBytes - kNameBytes) + name_; }

Result<int> remove_abandoned(const Places& places) {
  int count = 0;
  FASTDOCK_TRY(auto sessions, names_in(places.run + "/sessions"));
  for (const std::string& session : sessions) {
    std::string path = places.run + "/sessions/" + session;
    Claim claim(path);
    if (!claim) continue;
    // Made where it is missing: its process was killed before it could.
    auto file = open_file(owner_file(path), O_RDWR | O_CREAT, 0600);
    if (!file) continue;
    FASTDOCK_TRY(bool locked, lock_owner_file(file->get()));
    if (!locked) continue;
    FASTDOCK_CHECK(remove_containers_of(session, places));
    FASTDOCK_CHECK(remove_tree(AT_FDCWD, path));
    ++count;
  }
  if (count > 0) remove_own_parent(places);
  return count;
}

void remove_own_parent(const Places& places) {
  auto hierarchies = cgroup::Hierarchies::machine();
  if (hierarchies && places.cgroup_parent.find('/') != std::string::npos)
    cgroup::remove_if_empty(**hierarchies, places.cgroup_parent);
}

}  // namespace fastdock::launch
