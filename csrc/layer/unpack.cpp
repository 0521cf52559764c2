#include "layer/unpack.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>

#include "base/path.h"
#include "base/user_namespace.h"
#include "layer/attributes.h"
#include "layer/name.h"

namespace fastdock::layer {
namespace {

constexpr mode_t kSpecialBits = S_ISUID | S_ISGID | S_ISVTX;

Result<void> write_all(int fd, Bytes data, std::uint64_t offset, bool sparse, std::string_view name) {
  while (!data.empty()) {
    ssize_t count = sparse ? ::pwrite(fd, data.data(), data.size(), static_cast<off_t>(offset))
                           : ::write(fd, data.data(), data.size());
    if (count < 0) {
      if (errno == EINTR) continue;
      return failed(Operation::kWriteFile, name, errno == ENOSPC ? Hint::kNoSpace : Hint::kNone);
    }
    data = data.subspan(static_cast<std::size_t>(count));
    offset += static_cast<std::size_t>(count);
  }
  return {};
}

}  // namespace

Unpacker::Unpacker(Directories directories, const Limits& limits)
    : directories_(std::move(directories)), limits_(limits), uid_(::geteuid()), gid_(::getegid()) {}

Result<Unpacker> Unpacker::create(Fd destination, const Limits& limits) {
  FASTDOCK_TRY(Directories directories, Directories::create(std::move(destination)));
  return Unpacker(std::move(directories), limits);
}

Result<Unpacker::Place> Unpacker::place(std::string_view path) {
  auto [above, name] = split_name(path);
  FASTDOCK_TRY(int parent, directories_.open(above));
  if (directories_.count() > limits_.entries) return over_limit(path, "max_entries");
  return Place{parent, std::string(name), path};
}

Result<void> Unpacker::add(const Entry& entry, EntryData& data) {
  FASTDOCK_TRY(std::string path, normalize(entry.name, limits_));
  FASTDOCK_TRY(Whiteout whiteout, whiteout_of(path));
  switch (whiteout.kind) {
    case Whiteout::Kind::kIgnored:
      return {};
    case Whiteout::Kind::kName: {
      FASTDOCK_TRY(std::string hidden, directories_.resolve(std::move(whiteout.path), limits_));
      return add_whiteout(hidden);
    }
    case Whiteout::Kind::kOpaque: {
      FASTDOCK_TRY(std::string directory, directories_.resolve_directory(whiteout.path, limits_));
      FASTDOCK_CHECK(directories_.open(directory));
      directories_.state(directory)->opaque = true;
      return {};
    }
    case Whiteout::Kind::kNone:
      break;
  }
  FASTDOCK_TRY(path, directories_.resolve(std::move(path), limits_));
  if (entry.type == EntryType::kDirectory) return add_directory(entry, path);
  if (path.empty()) return refused(Hint::kCorruptArchive, entry.name);
  FASTDOCK_TRY(Place place, this->place(path));
  if (!links_below_.empty()) links_below_.erase(path);
  if (entry.type == EntryType::kFile) return add_file(entry, place, data);
  if (entry.type == EntryType::kHardLink) return add_hard_link(entry, place);
  return add_special(entry, place);
}

Result<void> Unpacker::add_directory(const Entry& entry, const std::string& path) {
  FASTDOCK_TRY(DirectoryState * state, directories_.make(path));
  if (directories_.count() > limits_.entries) return over_limit(path, "max_entries");
  if (!links_below_.empty() && links_below_.erase(path) != 0) state->fresh = state->opaque = true;
  state->mode = entry.mode;
  state->uid = entry.uid;
  state->gid = entry.gid;
  state->mtime = entry.mtime;
  state->attributes = entry.attributes;
  return {};
}

// Makes room for `place`: a later entry of the same name wins.
Result<void> Unpacker::clear(const Place& place) {
  if (!links_below_.empty()) {
    std::string first = std::string(place.path) + '/';
    std::string end = std::string(place.path) + '0';
    links_below_.erase(links_below_.lower_bound(first), links_below_.lower_bound(end));
  }
  return directories_.remove(place.parent, place.name, place.path);
}

template <class Make>
Result<void> Unpacker::make_replacing(const Place& place, Operation operation, Make&& make) {
  if (make() == 0) return {};
  if (errno == EEXIST) {
    FASTDOCK_CHECK(clear(place));
    if (make() == 0) return {};
  }
  return failed(operation, place.path, errno == ENOSPC ? Hint::kNoSpace : Hint::kNone);
}

Result<Fd> Unpacker::create_file(const Place& place, mode_t mode) {
  int fd = -1;
  FASTDOCK_CHECK(make_replacing(place, Operation::kCreateFile, [&] {
    fd = ::openat(place.parent, place.name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                  mode);
    return fd < 0 ? -1 : 0;
  }));
  return Fd(fd);
}

Result<void> Unpacker::add_file(const Entry& entry, const Place& place, EntryData& data) {
  FASTDOCK_TRY(Fd fd, create_file(place, entry.mode & ~kSpecialBits));
  FASTDOCK_CHECK(write_data(fd.get(), entry, data));
  return set_metadata(fd.get(), entry);
}

Result<void> Unpacker::write_data(int fd, const Entry& entry, EntryData& data) {
  while (true) {
    FASTDOCK_TRY(EntryData::Piece piece, data.read());
    if (piece.data.empty()) break;
    FASTDOCK_CHECK(write_all(fd, piece.data, piece.offset, entry.sparse, entry.name));
  }
  if (entry.sparse && ::ftruncate(fd, static_cast<off_t>(entry.size)) != 0)
    return failed(Operation::kWriteFile, entry.name);
  return {};
}

// Each step undoes what a later one sets: writing and chown(2) clear setuid and security.capability.
Result<void> Unpacker::set_metadata(int fd, const Entry& entry) {
  if ((entry.uid != uid_ || entry.gid != gid_) && ::fchown(fd, entry.uid, entry.gid) != 0)
    return failed(Operation::kSetOwner, entry.name, errno == EINVAL ? Hint::kIdNotMapped : Hint::kNone);
  if ((entry.mode & kSpecialBits) != 0 && ::fchmod(fd, entry.mode) != 0)
    return failed(Operation::kSetMode, entry.name);
  FASTDOCK_CHECK(set_attributes(fd, entry.attributes, entry.name, skipped_));
  const timespec times[2] = {entry.mtime, entry.mtime};
  if (::futimens(fd, times) != 0) return failed(Operation::kSetTimes, entry.name);
  return {};
}

// A link in a layer may name a file of a lower one, which this directory does not have; repair.h makes
// it once the layers below are known.
Result<void> Unpacker::add_hard_link(const Entry& entry, const Place& place) {
  FASTDOCK_TRY(std::string target, normalize(entry.link, limits_));
  if (target.empty()) return refused(Hint::kCorruptArchive, entry.name);
  FASTDOCK_TRY(target, directories_.resolve(std::move(target), limits_));
  auto [above, name] = split_name(target);
  std::string target_name(name);
  std::string target_parent_path(above);
  // Both parents are needed at once, and finding one may close the other's descriptor.
  FASTDOCK_TRY(int found, directories_.find(above));
  Fd target_parent(found < 0 ? -1 : ::fcntl(found, F_DUPFD_CLOEXEC, 0));
  if (found >= 0 && !target_parent) return failed(Operation::kOpenFile, target_parent_path);
  FASTDOCK_TRY(Place fresh, this->place(place.path));

  struct stat status{};
  bool here = target_parent &&
              ::fstatat(target_parent.get(), target_name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 &&
              !is_whiteout(status.st_mode, status.st_rdev);
  if (here && S_ISDIR(status.st_mode)) return refused(Hint::kCorruptArchive, entry.name);
  if (target == place.path) {
    if (here) return {};
    return refused(Hint::kLinkTargetMissing, entry.name);
  }
  if (!here) {
    FASTDOCK_CHECK(clear(fresh));
    auto below = links_below_.find(target);
    std::string origin = below == links_below_.end() ? target : below->second;
    links_below_[std::string(place.path)] = std::move(origin);
    return {};
  }
  return make_replacing(fresh, Operation::kLinkFile, [&] {
    return ::linkat(target_parent.get(), target_name.c_str(), fresh.parent, fresh.name.c_str(), 0);
  });
}

Result<void> Unpacker::add_special(const Entry& entry, const Place& place) {
  mode_t kind = entry.type == EntryType::kCharacterDevice ? S_IFCHR
                : entry.type == EntryType::kBlockDevice   ? S_IFBLK
                                                          : S_IFIFO;
  bool symlink = entry.type == EntryType::kSymlink;
  if (symlink) {
    if (entry.link.empty() || entry.link.size() > limits_.name)
      return refused(Hint::kCorruptArchive, entry.name);
    FASTDOCK_CHECK(make_replacing(place, Operation::kCreateLink, [&] {
      return ::symlinkat(entry.link.c_str(), place.parent, place.name.c_str());
    }));
  } else {
    dev_t device = makedev(entry.device_major, entry.device_minor);
    // To overlayfs this device is a whiteout: that is all it can mean in a layer.
    if (is_whiteout(kind, device)) return hide(place);
    auto made = make_replacing(place, Operation::kCreateDevice, [&] {
      return ::mknodat(place.parent, place.name.c_str(), kind | (entry.mode & ~kSpecialBits), device);
    });
    // Without root there are no device nodes but whiteouts; a container's /dev is its own anyway.
    if (!made && made.error().number == EPERM && kind != S_IFIFO && !in_initial_user_namespace()) {
      ++skipped_;
      return {};
    }
    if (!made) return made;
  }
  if (::fchownat(place.parent, place.name.c_str(), entry.uid, entry.gid, AT_SYMLINK_NOFOLLOW) != 0)
    return failed(Operation::kSetOwner, entry.name, errno == EINVAL ? Hint::kIdNotMapped : Hint::kNone);
  if (!symlink && (entry.mode & kSpecialBits) != 0 &&
      ::fchmodat(place.parent, place.name.c_str(), entry.mode, 0) != 0)
    return failed(Operation::kSetMode, entry.name);
  if (!entry.attributes.empty()) {
    FASTDOCK_TRY(Fd fd, open_at(place.parent, place.name, O_PATH | O_NOFOLLOW));
    FASTDOCK_CHECK(set_attributes(fd.get(), entry.attributes, entry.name, skipped_));
  }
  const timespec times[2] = {entry.mtime, entry.mtime};
  if (::utimensat(place.parent, place.name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0)
    return failed(Operation::kSetTimes, entry.name);
  return {};
}

Result<void> Unpacker::hide(const Place& place) {
  return make_replacing(place, Operation::kCreateDevice, [&] {
    return ::mknodat(place.parent, place.name.c_str(), S_IFCHR | 0600, makedev(0, 0));
  });
}

// A whiteout hides what lower layers have.  What this layer itself has under the name stays, whichever
// comes first: a file hides the lower one anyway, and a directory must not merge with it.
Result<void> Unpacker::add_whiteout(const std::string& path) {
  FASTDOCK_TRY(Place place, this->place(path));
  if (links_below_.contains(path)) return {};
  if (DirectoryState* state = directories_.state(path); state != nullptr) {
    state->fresh = state->opaque = true;
    return {};
  }
  if (::mknodat(place.parent, place.name.c_str(), S_IFCHR | 0600, makedev(0, 0)) == 0 || errno == EEXIST)
    return {};
  return failed(Operation::kCreateDevice, path);
}

Result<void> Unpacker::finish() { return directories_.finish(skipped_); }

std::string Unpacker::repairs() const {
  std::string text;
  directories_.each_implied([&](const std::string& path) { text.append("d").append(path).push_back('\0'); });
  for (const auto& [name, target] : links_below_) {
    text.append("l").append(name).push_back('\0');
    text.append(target).push_back('\0');
  }
  return text;
}

}  // namespace fastdock::layer
