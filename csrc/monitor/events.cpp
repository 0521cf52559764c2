#include "monitor/events.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "base/fd.h"
#include "base/path.h"
#include "monitor/json.h"

namespace fastdock::monitor {
namespace {

std::string line_of(const Event& event) {
  timespec time = now();
  std::string line = "{";
  auto member = [&](const char* name, std::string_view text) {
    if (line.back() != '{') line += ',';
    append_string(line, name);
    line += ':';
    append_string(line, text);
  };
  if (event.type == "container") {  // what API clients before 1.22 read
    member("status", event.action);
    member("id", event.id);
    for (const auto& [name, value] : event.attributes)
      if (name == "image") member("from", value);
  }
  member("Type", event.type);
  member("Action", event.action);
  line += ",\"Actor\":{";
  member("ID", event.id);
  line += ",\"Attributes\":{";
  for (const auto& [name, value] : event.attributes) member(name.c_str(), value);
  line += "}},\"scope\":\"local\",\"time\":" + std::to_string(time.tv_sec);
  line += ",\"timeNano\":" + std::to_string(time.tv_sec * 1'000'000'000 + time.tv_nsec) + "}\n";
  return line;
}

bool same_file(int fd, const std::string& path) {
  struct stat held {};
  struct stat there {};
  return ::fstat(fd, &held) == 0 && ::stat(path.c_str(), &there) == 0 && held.st_ino == there.st_ino &&
         held.st_dev == there.st_dev;
}

// The file that the path leads to, locked.
Result<Fd> open_locked(const std::string& path, int kind) {
  while (true) {
    FASTDOCK_TRY(Fd file, open_file(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, 0600));
    while (::flock(file.get(), kind) != 0)
      if (errno != EINTR) return failed(Operation::kLockFile, path);
    if (same_file(file.get(), path)) return file;
  }
}

Result<void> rotate(const std::string& path) {
  FASTDOCK_TRY(Fd file, open_locked(path, LOCK_EX));
  struct stat status {};
  if (::fstat(file.get(), &status) != 0 || static_cast<std::uint64_t>(status.st_size) < kMaximumEventLog) return {};
  if (::rename(path.c_str(), (path + ".1").c_str()) != 0) return failed(Operation::kRenameFile, path);
  return {};
}

}  // namespace

Result<void> append_event(const std::string& directory, const Event& event) {
  std::string path = directory + "/events";
  std::string line = line_of(event);
  struct stat status {};
  {
    FASTDOCK_TRY(Fd file, open_locked(path, LOCK_SH));
    // write(2): with O_APPEND the seek and the write are one step.
    if (::write(file.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size()))
      return failed(Operation::kWriteFile, path, errno == ENOSPC ? Hint::kNoSpace : Hint::kNone);
    if (::fstat(file.get(), &status) != 0) return failed(Operation::kInspectFile, path);
  }
  return static_cast<std::uint64_t>(status.st_size) < kMaximumEventLog ? Result<void>{} : rotate(path);
}

}  // namespace fastdock::monitor
