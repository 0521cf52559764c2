// The directories that an archive is unpacked into: found and made below one descriptor, and given their
// attributes when everything is in them.
//
// The kernel never follows a link here.  An entry that lies below a symbolic link of the same archive goes
// where the link leads with the archive's root as "/", as in Docker, which unpacks in a chroot; resolve()
// finds that place by reading links, and what it returns is opened like any other path.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/fd.h"
#include "layer/layer.h"

namespace fastdock::layer {

// What is said of one directory; set at the end, because files made in it would change its time, and
// because it may not be writable.
struct DirectoryState {
  bool listed = false;  // has an entry of its own
  bool fresh = false;   // replaces something: nothing of a lower layer is left in it
  bool opaque = false;  // .wh..wh..opq
  mode_t mode = 0755;   // as Docker and containerd make what an archive does not list
  uid_t uid = 0;
  gid_t gid = 0;
  timespec mtime{};
  std::vector<Attribute> attributes;
};

class Directories {
 public:
  // `root` is an open, empty directory.
  static Result<Directories> create(Fd root);

  // The same place by a path without links; its last component is left as it is.
  Result<std::string> resolve(std::string path, const Limits& limits);
  // The same for what is a directory: its last component is resolved, too.
  Result<std::string> resolve_directory(std::string_view path, const Limits& limits);

  // A descriptor (O_PATH) of the directory `path`, made with its parents where missing; valid until the
  // next call.  What is not a directory there is an error, unless it is a whiteout of this archive.
  Result<int> open(std::string_view path);
  // The same for one that should exist: -1 if it does not.
  Result<int> find(std::string_view path);
  // Makes `path` a directory, replacing what is no directory, and returns its state to fill.
  Result<DirectoryState*> make(std::string_view path);
  // The state of a directory that is there; null if there is none.
  DirectoryState* state(std::string_view path);
  // Removes the file or directory tree `name` in `parent`, whose whole path is `path`.
  Result<void> remove(int parent, std::string_view name, std::string_view path);
  // Gives every directory its attributes, the deepest first.
  Result<void> finish(std::uint64_t& skipped_attributes);

  // Calls back for each directory that has no entry of its own but may have one in a lower layer.
  void each_implied(const std::function<void(const std::string&)>& call) const;
  [[nodiscard]] std::size_t count() const { return states_.size(); }

 private:
  explicit Directories(Fd root) : root_(std::move(root)) {}

  [[nodiscard]] bool known(std::string_view path) const {
    return path.empty() || (last_fd_ >= 0 && path == last_) || states_.contains(path);
  }
  Result<std::optional<std::string>> read_link(std::string_view directory, std::string_view name);
  Result<void> make_in(int parent, std::string_view name, std::string_view path, bool listed);
  Result<void> finish_one(const std::string& path, const DirectoryState& state, std::uint64_t& skipped);
  int remember(std::string_view path, Fd fd);

  Fd root_;
  std::map<std::string, DirectoryState, std::less<>> states_;  // "" is the root

  // Descriptors of some of them.  Archives go through a tree in order, so a few are enough.
  static constexpr std::size_t kMostOpen = 64;
  std::unordered_map<std::string, Fd> open_;
  std::string last_;
  int last_fd_ = -1;
};

// Whether the file is overlayfs' whiteout: a character device 0:0.
bool is_whiteout(mode_t mode, dev_t device);

}  // namespace fastdock::layer
