#include "monitor/log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "base/path.h"
#include "monitor/json.h"

namespace fastdock::monitor {
namespace {

constexpr std::size_t kMaximumText = 16384;  // moby, daemon/logger/copier.go: defaultBufSize
constexpr std::size_t kFlushAt = 65536;
constexpr std::uint64_t kSpared = 8 << 20;

// Logs do not take the last of a file system: commands that make room again need some (the database's files).
// What is available to users who are not root counts, so that what is set aside for root stays too.
bool has_room(int file, std::size_t size) {
  struct statfs system{};
  if (file < 0 || ::fstatfs(file, &system) != 0) return true;
  auto block = static_cast<std::uint64_t>(system.f_bsize);
  std::uint64_t spared = std::min(kSpared, system.f_blocks * block / 32);
  return system.f_blocks == 0 || system.f_bavail * block >= size + spared;
}

}  // namespace

void Log::write(Stream stream, std::string_view bytes) {
  if (options_.driver == LogDriver::kNone) return;
  std::string& pending = pending_[static_cast<std::size_t>(stream)];
  while (!bytes.empty()) {
    std::size_t room = kMaximumText - pending.size();
    std::size_t end = bytes.substr(0, room).find('\n');
    bool whole = end != std::string_view::npos;
    std::string_view part = bytes.substr(0, whole ? end + 1 : room);
    bytes.remove_prefix(part.size());
    if (!whole && part.size() < room) {
      pending.append(part);
      break;
    }
    if (pending.empty()) {
      add(stream, part);
    } else {
      pending.append(part);
      add(stream, pending);
      pending.clear();
    }
  }
  flush();
}

void Log::finish() {
  for (Stream stream : {Stream::kOutput, Stream::kErrors}) {
    std::string& pending = pending_[static_cast<std::size_t>(stream)];
    if (!pending.empty()) add(stream, pending);
    pending.clear();
  }
  flush();
}

void Log::add(Stream stream, std::string_view text) {
  out_ += "{\"log\":\"";
  bool valid = append_escaped(out_, text);
  out_ += stream == Stream::kOutput ? "\",\"stream\":\"stdout\",\"time\":\""
                                    : "\",\"stream\":\"stderr\",\"time\":\"";
  append_time(out_, now());
  if (!valid) {
    out_ += "\",\"raw\":\"";
    append_base64(out_, text);
  }
  out_ += "\"}\n";
  // A file is not to grow far beyond its size.
  std::uint64_t limit =
      options_.maximum_size != 0 ? std::min<std::uint64_t>(kFlushAt, options_.maximum_size / 8) : kFlushAt;
  if (out_.size() >= limit) flush();
}

void Log::flush() {
  if (out_.empty()) return;
  if (open()) {
    if (options_.maximum_size != 0 && size_ > 0 && size_ + out_.size() > options_.maximum_size) rotate();
    std::string_view rest = has_room(file_.get(), out_.size()) ? out_ : std::string_view();
    while (file_ && !rest.empty()) {
      ssize_t written = ::write(file_.get(), rest.data(), rest.size());
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) {
        // ENOSPC and friends: half a line would spoil the next one, so what was begun is taken back.
        if (::ftruncate(file_.get(), static_cast<off_t>(size_)) != 0) file_.reset();
        break;
      }
      rest.remove_prefix(static_cast<std::size_t>(written));
      if (rest.empty()) size_ += out_.size();
    }
  }
  out_.clear();
  if (out_.capacity() > 2 * kFlushAt) out_.shrink_to_fit();
}

bool Log::open() {
  if (file_) return true;
  auto file = open_file(options_.path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, 0640);
  if (!file) return false;
  struct stat status{};
  if (::fstat(file->get(), &status) == 0) size_ = static_cast<std::uint64_t>(status.st_size);
  file_ = std::move(*file);
  return true;
}

void Log::rotate() {
  const std::string& path = options_.path;
  std::string suffix = options_.compress ? ".gz" : "";
  if (options_.maximum_files < 2) {
    if (::ftruncate(file_.get(), 0) == 0) size_ = 0;
    return;
  }
  if (compressor_ > 0) {
    // The file that it reads is about to get another name, or to go.
    while (::waitpid(compressor_, nullptr, 0) < 0 && errno == EINTR) {
    }
    compressor_ = -1;
  }
  for (std::uint32_t number = options_.maximum_files - 1; number > 1; --number) {
    std::string from = path + "." + std::to_string(number - 1) + suffix;
    ::rename(from.c_str(), (path + "." + std::to_string(number) + suffix).c_str());
  }
  std::string newest = path + ".1";
  if (::rename(path.c_str(), newest.c_str()) != 0) return;
  file_.reset();
  size_ = 0;
  open();
  if (options_.compress) compress(newest);
}

// In a process of its own: the container's output must not wait for it.
void Log::compress(const std::string& path) {
  pid_t child = ::fork();
  if (child > 0) compressor_ = child;
  if (child != 0) return;
  // gzip of the host, below no container's control; without it the file stays as it is, and readers know
  // both.
  char* arguments[] = {const_cast<char*>("gzip"), const_cast<char*>("-f"), const_cast<char*>("--"),
                       const_cast<char*>(path.c_str()), nullptr};
  ::execvp("gzip", arguments);
  ::_exit(127);
}

}  // namespace fastdock::monitor
