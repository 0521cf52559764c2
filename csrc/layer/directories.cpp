#include "layer/directories.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "base/path.h"
#include "layer/attributes.h"
#include "layer/name.h"

namespace fastdock::layer {

bool is_whiteout(mode_t mode, dev_t device) { return S_ISCHR(mode) && device == 0; }

Result<Directories> Directories::create(Fd root) {
  // While unpacking, nothing of the directory itself may change what is made in it: no default ACL, no
  // inherited group.
  if (::fchmod(root.get(), 0700) != 0) return failed(Operation::kSetMode, "/");
  ::fremovexattr(root.get(), "system.posix_acl_default");
  Directories directories(std::move(root));
  directories.states_[""];
  return directories;
}

int Directories::remember(std::string_view path, Fd fd) {
  if (open_.size() >= kMostOpen) open_.clear();
  last_ = path;
  last_fd_ = fd.get();
  open_[last_] = std::move(fd);
  return last_fd_;
}

Result<int> Directories::find(std::string_view path) {
  if (path.empty()) return root_.get();
  if (last_fd_ >= 0 && path == last_) return last_fd_;
  std::string key(path);
  if (auto known = open_.find(key); known != open_.end()) {
    last_ = std::move(key);
    last_fd_ = known->second.get();
    return last_fd_;
  }
  if (!states_.contains(path)) return -1;
  FASTDOCK_TRY(Fd fd, open_beneath(root_.get(), key, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  return remember(path, std::move(fd));
}

// The target of a symbolic link; none if `name` is something else, or nothing.
Result<std::optional<std::string>> Directories::read_link(std::string_view directory, std::string_view name) {
  FASTDOCK_TRY(int parent, find(directory));
  if (parent < 0) return std::nullopt;
  char target[PATH_MAX];
  ssize_t size = ::readlinkat(parent, std::string(name).c_str(), target, sizeof target);
  if (size >= 0) return std::string(target, static_cast<std::size_t>(size));
  if (errno == EINVAL || errno == ENOENT || errno == ENAMETOOLONG) return std::nullopt;
  return failed(Operation::kInspectFile, name);
}

Result<std::string> Directories::resolve_directory(std::string_view path, const Limits& limits) {
  constexpr int kMostLinks = 40;  // path_resolution(7)
  if (known(path)) return std::string(path);
  int links = 0;
  std::string done;
  std::string todo(path);
  for (std::size_t start = 0; start < todo.size();) {
    std::size_t end = std::min(todo.find('/', start), todo.size());
    std::string_view component = std::string_view(todo).substr(start, end - start);
    start = end + 1;
    if (component.empty() || component == ".") continue;
    if (component == "..") {  // of the root: the root, as in a chroot
      done.resize(split_name(done).first.size());
      continue;
    }
    std::string next = join_path(done, component);
    if (!known(next)) {
      FASTDOCK_TRY(std::optional<std::string> target, read_link(done, component));
      if (target) {
        if (++links > kMostLinks) return refused(Hint::kArchiveThroughLink, path);
        if (target->starts_with('/')) done.clear();
        todo = *target + '/' + todo.substr(std::min(start, todo.size()));
        start = 0;
        continue;
      }
    }
    done = std::move(next);
  }
  // Links can lead to longer paths than any name of the archive, and to names that mean a whiteout.
  FASTDOCK_TRY(Whiteout whiteout, whiteout_of(done));
  if (whiteout.kind != Whiteout::Kind::kNone) return refused(Hint::kCorruptArchive, path);
  return normalize(done, limits);
}

Result<std::string> Directories::resolve(std::string path, const Limits& limits) {
  auto [above, name] = split_name(path);
  if (known(above)) return path;
  FASTDOCK_TRY(std::string directory, resolve_directory(above, limits));
  return normalize(join_path(directory, name), limits);
}

Result<int> Directories::open(std::string_view path) {
  FASTDOCK_TRY(int known, find(path));
  if (known >= 0) return known;
  auto [above, name] = split_name(path);
  FASTDOCK_TRY(int parent, open(above));
  FASTDOCK_CHECK(make_in(parent, name, path, false));
  return find(path);
}

Result<DirectoryState*> Directories::make(std::string_view path) {
  auto known = states_.find(path);
  if (known == states_.end()) {
    auto [above, name] = split_name(path);
    FASTDOCK_TRY(int parent, open(above));
    FASTDOCK_CHECK(make_in(parent, name, path, true));
    known = states_.find(path);
  }
  known->second.listed = true;
  return &known->second;
}

DirectoryState* Directories::state(std::string_view path) {
  auto known = states_.find(path);
  return known == states_.end() ? nullptr : &known->second;
}

// The new directory can be searched by us alone until finish().
Result<void> Directories::make_in(int parent, std::string_view name, std::string_view path, bool listed) {
  std::string text(name);
  bool fresh = false;
  while (::mkdirat(parent, text.c_str(), 0700) != 0) {
    if (errno != EEXIST || fresh) return failed(Operation::kCreateDirectory, path);
    // Directories are all in states_, so this is something else.  An entry of its own replaces it; a
    // mere parent replaces only a whiteout.
    struct stat status{};
    if (::fstatat(parent, text.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
      return failed(Operation::kInspectFile, path);
    if (!listed && !is_whiteout(status.st_mode, status.st_rdev))
      return refused(Hint::kArchiveThroughLink, path);
    if (::unlinkat(parent, text.c_str(), 0) != 0) return failed(Operation::kRemoveFile, path);
    fresh = true;
  }
  DirectoryState& state = states_[std::string(path)];
  // What was there hid all that lower layers have under this name; the directory must go on hiding it.
  state.fresh = state.opaque = fresh;
  return {};
}

Result<void> Directories::remove(int parent, std::string_view name, std::string_view path) {
  FASTDOCK_CHECK(remove_tree(parent, std::string(name)));
  if (states_.erase(std::string(path)) == 0) return {};
  // Its descendants: all that sort between "path/" and "path0" ('0' follows '/').
  std::string first = std::string(path) + '/';
  std::string end = std::string(path) + '0';
  states_.erase(states_.lower_bound(first), states_.lower_bound(end));
  // The caller's `parent` may be among the open ones, so only those that are gone are dropped.
  std::erase_if(open_, [&](const auto& item) { return item.first == path || item.first.starts_with(first); });
  last_fd_ = -1;
  return {};
}

Result<void> Directories::finish_one(const std::string& path, const DirectoryState& state,
                                     std::uint64_t& skipped) {
  constexpr int kFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
  FASTDOCK_TRY(Fd fd,
               path.empty() ? open_at(root_.get(), ".", kFlags) : open_beneath(root_.get(), path, kFlags));
  if (state.opaque) FASTDOCK_CHECK(set_opaque(fd.get(), path));
  // chown(2) clears setuid and setgid, and writing them needs the owner's right: this order.
  if (::fchown(fd.get(), state.uid, state.gid) != 0) return failed(Operation::kSetOwner, path);
  if (::fchmod(fd.get(), state.mode) != 0) return failed(Operation::kSetMode, path);
  FASTDOCK_CHECK(set_attributes(fd.get(), state.attributes, path, skipped));
  const timespec times[2] = {state.mtime, state.mtime};
  if (::futimens(fd.get(), times) != 0) return failed(Operation::kSetTimes, path);
  return {};
}

Result<void> Directories::finish(std::uint64_t& skipped_attributes) {
  open_.clear();
  last_fd_ = -1;
  // A parent sorts before its children: backwards, the children come first.
  for (auto item = states_.rbegin(); item != states_.rend(); ++item)
    FASTDOCK_CHECK(finish_one(item->first, item->second, skipped_attributes));
  return {};
}

void Directories::each_implied(const std::function<void(const std::string&)>& call) const {
  for (const auto& [path, state] : states_)
    if (!state.listed && !state.fresh) call(path);
}

}  // namespace fastdock::layer
