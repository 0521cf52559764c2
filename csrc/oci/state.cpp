#include "oci/state.h"

#include <fcntl.h>
#include <rapidjson/prettywriter.h>
#include <rapidjson/stringbuffer.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "base/path.h"
#include "cgroup/cgroup.h"
#include "oci/systemd.h"

namespace fastdock::oci {
namespace {

constexpr int kStateVersion = 1;

using PrettyWriter = rapidjson::PrettyWriter<rapidjson::StringBuffer>;

template <class Writer>
void put(Writer& writer, std::string_view key, std::string_view value) {
  writer.Key(key.data(), static_cast<rapidjson::SizeType>(key.size()));
  writer.String(value.data(), static_cast<rapidjson::SizeType>(value.size()));
}

template <class Writer>
void put(Writer& writer, std::string_view key, const Annotations& annotations) {
  writer.Key(key.data(), static_cast<rapidjson::SizeType>(key.size()));
  writer.StartObject();
  for (const auto& [name, value] : annotations) put(writer, name, value);
  writer.EndObject();
}

template <class Writer>
void write_state(Writer& writer, const State& state, Status status, StateFor reader) {
  const bool whole = reader != StateFor::kHooks;
  writer.StartObject();
  put(writer, "ociVersion", state.version);
  put(writer, "id", state.id);
  writer.Key("pid");
  writer.Int(status == Status::kStopped ? 0 : state.pid);
  put(writer, "status", name_of(status));
  put(writer, "bundle", state.bundle);
  if (whole) put(writer, "rootfs", state.rootfs);
  if (whole) put(writer, "created", state.created);
  if (!state.annotations.empty()) put(writer, "annotations", state.annotations);
  if (whole) put(writer, "owner", state.owner);
  writer.EndObject();
}

// rename(2), where a file that is replaced is exchanged and then removed.  When ext4 replaces one, it first
// writes the new one to the disk (ext4_rename, auto_da_alloc), and pays again when those blocks are freed:
// together 2.5 ms where /run is no tmpfs and its disk discards.  The state of a container need not survive
// the machine.
bool put_in_place(const std::string& temporary, const std::string& path) {
  const char* from = temporary.c_str();
  const char* to = path.c_str();
  if (::renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0) return true;
  if (errno == EEXIST && ::renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_EXCHANGE) == 0)
    return ::unlink(from) == 0;
  return ::rename(from, to) == 0;  // EINVAL: a file system that cannot do these
}

std::string describe_missing(const std::string& id) { return "container " + id + " does not exist"; }

}  // namespace

std::string_view name_of(Status status) {
  constexpr std::array<std::string_view, 5> names = {"creating", "created", "running", "paused", "stopped"};
  return names[static_cast<std::size_t>(status)];
}

Result<void> check_id(const std::string& id) {
  constexpr std::size_t kLongest = 200;
  constexpr const char* kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.";
  if (id.empty() || id == "." || id == ".." || id.size() > kLongest ||
      id.find_first_not_of(kAllowed) != std::string::npos)
    return failed_with(EINVAL, Operation::kUseContainer, "invalid container id \"" + id + "\"");
  return {};
}

std::uint64_t start_time_of(pid_t pid) {
  if (pid <= 0) return 0;
  auto text = read_file("/proc/" + std::to_string(pid) + "/stat");
  if (!text) return 0;
  // The name of the program is in parentheses and may hold anything; the fields go on after the last one.
  std::size_t at = text->rfind(')');
  if (at == std::string::npos || at + 2 >= text->size()) return 0;
  char state = (*text)[at + 2];
  if (state == 'Z' || state == 'X') return 0;
  const char* field = text->c_str() + at + 2;
  for (int number = 3; number < 22; ++number) {
    while (*field != ' ' && *field != '\0') ++field;
    while (*field == ' ') ++field;
  }
  return std::strtoull(field, nullptr, 10);
}

std::string timestamp() {
  // Not gmtime(3), which reads /etc/localtime.
  using namespace std::chrono;
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  const sys_seconds time{seconds(now.tv_sec)};
  const auto day = floor<days>(time);
  const year_month_day date(day);
  const hh_mm_ss clock(time - day);
  char text[64];
  std::snprintf(text, sizeof text, "%04d-%02u-%02uT%02ld:%02ld:%02ld.%09ldZ", static_cast<int>(date.year()),
                static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                static_cast<long>(clock.hours().count()), static_cast<long>(clock.minutes().count()),
                static_cast<long>(clock.seconds().count()), now.tv_nsec);
  return text;
}

Result<void> write_whole(const std::string& path, std::string_view text, mode_t mode) {
  std::string temporary = path + "." + std::to_string(::getpid()) + ".tmp";
  {
    FASTDOCK_TRY(Fd file, open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode));
    while (!text.empty()) {
      ssize_t count = ::write(file.get(), text.data(), text.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) {
        auto error = failed(Operation::kWriteFile, path);
        ::unlink(temporary.c_str());
        return error;
      }
      text.remove_prefix(static_cast<std::size_t>(count));
    }
  }
  if (put_in_place(temporary, path)) return {};
  auto error = failed(Operation::kRenameFile, path);
  ::unlink(temporary.c_str());
  return error;
}

Result<Container> Container::create(const std::string& root, const std::string& id) {
  FASTDOCK_CHECK(check_id(id));
  std::string path = root + "/" + id;
  int made = ::mkdir(path.c_str(), 0700);
  if (made != 0 && errno == ENOENT) {
    FASTDOCK_CHECK(make_directories(root, 0700));
    made = ::mkdir(path.c_str(), 0700);
  }
  if (made != 0 && errno == EEXIST)
    return failed_with(EEXIST, Operation::kUseContainer, "container with id " + id + " exists already");
  if (made != 0) return failed(Operation::kCreateDirectory, path);
  FASTDOCK_TRY(Fd directory, open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  Container container(std::move(path), std::move(directory));
  container.state.id = id;
  return container;
}

Result<Container> Container::open_damaged(const std::string& root, const std::string& id) {
  FASTDOCK_CHECK(check_id(id));
  std::string path = root + "/" + id;
  auto directory = open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!directory && directory.error().number == ENOENT)
    return failed_with(ENOENT, Operation::kUseContainer, describe_missing(id));
  if (!directory) return std::unexpected(directory.error());
  Container container(std::move(path), std::move(*directory));
  container.state.id = id;
  return container;
}

Result<Container> Container::open(const std::string& root, const std::string& id) {
  FASTDOCK_TRY(Container container, open_damaged(root, id));
  FASTDOCK_CHECK(container.load());
  return container;
}

Result<void> Container::lock() {
  while (::flock(directory_.get(), LOCK_EX) != 0)
    if (errno != EINTR) return failed(Operation::kLockFile, path_);
  // `delete` may have been faster.
  struct stat held{};
  struct stat named{};
  if (::fstat(directory_.get(), &held) != 0 || ::stat(path_.c_str(), &named) != 0 ||
      held.st_ino != named.st_ino)
    return failed_with(ENOENT, Operation::kUseContainer, describe_missing(state.id));
  return {};
}

void Container::unlock() const { (void)::flock(directory_.get(), LOCK_UN); }

Result<void> Container::load() {
  auto document = parse_file(path_ + "/state.json");
  if (!document && document.error().number == ENOENT)
    return failed_with(ENOENT, Operation::kUseContainer, describe_missing(state.id));
  if (!document) return std::unexpected(document.error());
  Json root = (*document)->root();
  int version = 0;
  root["fastdockState"].read(version);
  if (version != kStateVersion)
    return failed_with(
        EPROTO, Operation::kUseContainer,
        path_ + "/state.json was written by another version of fastdock-oci, or another runtime");
  root.required("ociVersion").read(state.version);
  root.required("pid").read(state.pid);
  root.required("startTime").read(state.start_time);
  root.required("bundle").read(state.bundle);
  root.required("rootfs").read(state.rootfs);
  root.required("created").read(state.created);
  root["owner"].read(state.owner);
  root["cgroup"].read(state.cgroup);
  root["systemdUnit"].read(state.systemd_unit);
  root["rootMount"].read(state.root_mount);
  state.annotations.clear();
  root["annotations"].members([&](std::string_view key, Json value) {
    state.annotations.emplace_back(key, std::string());
    value.read(state.annotations.back().second);
  });
  FASTDOCK_CHECK((*document)->problem());
  FASTDOCK_CHECK(scope_is_out_of_reach(state));
  return {};
}

Result<void> Container::save() const {
  rapidjson::StringBuffer buffer;
  PrettyWriter writer(buffer);
  writer.StartObject();
  writer.Key("fastdockState");
  writer.Int(kStateVersion);
  put(writer, "ociVersion", state.version);
  put(writer, "id", state.id);
  writer.Key("pid");
  writer.Int(state.pid);
  writer.Key("startTime");
  writer.Uint64(state.start_time);
  put(writer, "bundle", state.bundle);
  put(writer, "rootfs", state.rootfs);
  put(writer, "created", state.created);
  put(writer, "owner", state.owner);
  put(writer, "cgroup", state.cgroup);
  put(writer, "systemdUnit", state.systemd_unit);
  writer.Key("rootMount");
  writer.Uint64(state.root_mount);
  put(writer, "annotations", state.annotations);
  writer.EndObject();
  return write_whole(path_ + "/state.json", {buffer.GetString(), buffer.GetSize()}, 0600);
}

Result<void> Container::save_config(std::string_view text) const {
  return write_whole(config_file(), text, 0600);
}

Result<void> Container::make_fifo() const {
  if (::mkfifo(fifo().c_str(), 0600) == 0) return {};
  return failed(Operation::kCreateFile, fifo());
}

Result<void> Container::remove() const {
  // Most often these two are all.
  for (const char* name : {"state.json", "config.json"}) (void)::unlinkat(directory_.get(), name, 0);
  if (::rmdir(path_.c_str()) == 0) return {};
  return remove_tree(AT_FDCWD, path_);
}

bool Container::process_lives() const {
  return state.pid > 0 && state.start_time != 0 && start_time_of(state.pid) == state.start_time;
}

Result<Fd> Container::process() const {
  Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, state.pid, 0)));
  // Opened first, looked at then: the number cannot become another process's while we hold the descriptor.
  if (!pidfd || !process_lives())
    return failed_with(ESRCH, Operation::kUseContainer, "container not running");
  return pidfd;
}

Status Container::status() {
  // No process yet: being created, while its creator holds the lock.
  if (state.pid == 0) {
    if (::flock(directory_.get(), LOCK_EX | LOCK_NB) != 0) return Status::kCreating;
    (void)load();  // it may have finished since we read, also while we waited for the lock
  }
  if (!process_lives()) return Status::kStopped;
  if (::access(fifo().c_str(), F_OK) == 0) return Status::kCreated;
  if (state.cgroup.empty()) return Status::kRunning;
  auto hierarchies = cgroup::Hierarchies::machine();
  if (!hierarchies) return Status::kRunning;
  auto group = cgroup::Cgroup::open(**hierarchies, state.cgroup);
  if (!group) return Status::kRunning;
  return group->is_frozen().value_or(false) ? Status::kPaused : Status::kRunning;
}

std::string state_json(const State& state, Status status, StateFor reader) {
  rapidjson::StringBuffer buffer;
  if (reader != StateFor::kList) {
    PrettyWriter writer(buffer);
    writer.SetIndent(' ', 2);
    write_state(writer, state, status, reader);
  } else {
    rapidjson::Writer<rapidjson::StringBuffer> writer(buffer);
    write_state(writer, state, status, reader);
  }
  return {buffer.GetString(), buffer.GetSize()};
}

}  // namespace fastdock::oci
