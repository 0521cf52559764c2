#include "layer/diff.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "base/path.h"
#include "layer/attributes.h"
#include "layer/directories.h"
#include "layer/name.h"
#include "layer/stack.h"
#include "layer/tree_writer.h"

namespace fastdock::layer {
namespace {

Result<FileHandle> open_root(const std::string& path) {
  FASTDOCK_TRY(Fd root, open_file(path, O_RDONLY | O_DIRECTORY));
  return FileHandle::open(root.get(), ".", "");
}

bool whiteout(const FileHandle& file) { return is_whiteout(file.status().st_mode, file.status().st_rdev); }

// A file of this name would hide another one when the layer is unpacked.
Result<void> check_name(std::string_view name, std::string_view path) {
  if (name.starts_with(".wh.")) return refused(Hint::kUnsupportedEntry, path);
  return {};
}

// An upper directory, file by file.
class UpperWalk {
 public:
  UpperWalk(TreeWriter& writer, const IdOffset& offset) : writer_(writer), offset_(offset) {}

  Result<void> root(const FileHandle& directory) {
    // A root that nobody touched is left out: it would put the upper directory's time over the image's.
    FASTDOCK_TRY(std::vector<Attribute> attributes, get_attributes(directory.get(), "/"));
    const struct stat& status = directory.status();
    bool own = status.st_uid == offset_.uid && status.st_gid == offset_.gid;
    bool touched = !own || (status.st_mode & 07777) != 0755 || !attributes.empty();
    if (touched) FASTDOCK_CHECK(writer_.add(directory));
    return contents(directory);
  }

 private:
  Result<void> contents(const FileHandle& directory) {
    FASTDOCK_TRY(bool opaque, is_opaque(directory.get(), directory.path()));
    if (opaque) FASTDOCK_CHECK(writer_.add_opaque(directory.path()));
    FASTDOCK_TRY(Fd fd, directory.reopen());
    FASTDOCK_TRY(std::vector<std::string> names, list_names(fd.get(), directory.path()));
    for (const std::string& name : names) FASTDOCK_CHECK(one(fd.get(), name, directory.path()));
    return {};
  }

  Result<void> one(int parent, const std::string& name, const std::string& directory) {
    FASTDOCK_TRY(FileHandle file, FileHandle::open(parent, name, join_path(directory, name)));
    FASTDOCK_CHECK(check_name(name, file.path()));
    if (whiteout(file)) return writer_.add_whiteout(directory, name);
    FASTDOCK_TRY(bool elsewhere, refers_elsewhere(file.get(), file.path()));
    if (elsewhere) return failed_with(EOPNOTSUPP, Operation::kReadFile, file.path(), Hint::kOverlayReference);
    FASTDOCK_CHECK(writer_.add(file));
    return file.is_directory() ? contents(file) : Result<void>{};
  }

  TreeWriter& writer_;
  const IdOffset offset_;
};

// A whole tree as it is.
class TreeWalk {
 public:
  explicit TreeWalk(TreeWriter& writer) : writer_(writer) {}

  Result<void> root(const FileHandle& directory) {
    FASTDOCK_TRY(mount_, mount_of(directory));
    FASTDOCK_CHECK(writer_.add(directory));
    FASTDOCK_TRY(Fd fd, directory.reopen());
    return contents(fd.get(), "");
  }

 private:
  Result<void> contents(int directory, const std::string& path) {
    FASTDOCK_TRY(std::vector<std::string> names, list_names(directory, path));
    for (const std::string& name : names) {
      FASTDOCK_TRY(FileHandle file, FileHandle::open(directory, name, join_path(path, name)));
      FASTDOCK_TRY(std::uint64_t mount, mount_of(file));
      if (mount != mount_) {
        FASTDOCK_CHECK(writer_.add_mount_point(file));
        continue;
      }
      FASTDOCK_CHECK(writer_.add(file));
      if (!file.is_directory()) continue;
      FASTDOCK_TRY(std::optional<Fd> inside, open_same_mount(directory, name, file.path()));
      if (inside) FASTDOCK_CHECK(contents(inside->get(), file.path()));
    }
    return {};
  }

  TreeWriter& writer_;
  std::uint64_t mount_ = 0;
};

Result<bool> same_data(const FileHandle& one, const FileHandle& other, const Entry& entry) {
  FASTDOCK_TRY(Fd first, one.reopen());
  FASTDOCK_TRY(Fd second, other.reopen());
  FileData left(std::move(first), entry);
  FileData right(std::move(second), entry);
  while (true) {
    FASTDOCK_TRY(EntryData::Piece a, left.read());
    FASTDOCK_TRY(EntryData::Piece b, right.read());
    if (!std::ranges::equal(a.data, b.data)) return false;
    if (a.data.empty()) return true;
  }
}

Result<bool> same_file(const FileHandle& before, const FileHandle& after) {
  const struct stat& old_status = before.status();
  const struct stat& new_status = after.status();
  if (old_status.st_dev == new_status.st_dev && old_status.st_ino == new_status.st_ino) return true;
  FASTDOCK_TRY(std::optional<Entry> a, before.entry({}));
  FASTDOCK_TRY(std::optional<Entry> b, after.entry({}));
  if (!a || !b || a->type != b->type) return false;
  bool same = a->mode == b->mode && a->uid == b->uid && a->gid == b->gid && a->size == b->size &&
              a->link == b->link && a->device_major == b->device_major &&
              a->device_minor == b->device_minor && a->mtime.tv_sec == b->mtime.tv_sec &&
              a->mtime.tv_nsec == b->mtime.tv_nsec && a->attributes == b->attributes;
  if (!same || a->type == EntryType::kDirectory) return same;
  if (old_status.st_nlink != new_status.st_nlink) return false;
  // Sizes and times can be the same by chance or on purpose; a layer must not lose such a change.
  return a->type == EntryType::kFile ? same_data(before, after, *a) : true;
}

// Two trees, in two passes: of a file with several names, all are written if one has to be, so that they
// stay names of one file; which those are is known only when all have been seen.
class TreeDiff {
 public:
  explicit TreeDiff(TreeWriter& writer) : writer_(writer) {}

  Result<void> run(const FileHandle& before, const FileHandle& after) {
    for (bool writing : {false, true}) {
      writing_ = writing;
      FASTDOCK_CHECK(directory(&before, after));
    }
    return {};
  }

 private:
  using Inode = std::pair<dev_t, ino_t>;
  static Inode inode(const FileHandle& file) { return {file.status().st_dev, file.status().st_ino}; }

  Result<void> directory(const FileHandle* before, const FileHandle& after) {
    bool changed = true;
    if (before != nullptr) {
      FASTDOCK_TRY(bool same, same_file(*before, after));
      changed = !same;
    }
    pending_.push_back(&after);
    if (changed) FASTDOCK_CHECK(write_parents());
    FASTDOCK_CHECK(contents(before, after));
    if (!pending_.empty() && pending_.back() == &after) pending_.pop_back();
    return {};
  }

  Result<void> contents(const FileHandle* before, const FileHandle& after) {
    Fd old_fd;
    std::vector<std::string> old_names;
    if (before != nullptr) {
      FASTDOCK_TRY(old_fd, before->reopen());
      FASTDOCK_TRY(old_names, list_names(old_fd.get(), before->path()));
    }
    FASTDOCK_TRY(Fd new_fd, after.reopen());
    FASTDOCK_TRY(std::vector<std::string> new_names, list_names(new_fd.get(), after.path()));
    std::vector<std::string> names;
    std::ranges::set_union(old_names, new_names, std::back_inserter(names));
    for (const std::string& name : names) {
      std::string path = join_path(after.path(), name);
      FASTDOCK_CHECK(check_name(name, path));
      std::optional<FileHandle> old_file;
      std::optional<FileHandle> new_file;
      if (std::ranges::binary_search(old_names, name)) {
        FASTDOCK_TRY(old_file, FileHandle::open(old_fd.get(), name, path));
      }
      if (std::ranges::binary_search(new_names, name)) {
        FASTDOCK_TRY(new_file, FileHandle::open(new_fd.get(), name, path));
        if (S_ISSOCK(new_file->status().st_mode)) new_file.reset();
      }
      FASTDOCK_CHECK(
          pair(old_file ? &*old_file : nullptr, new_file ? &*new_file : nullptr, after.path(), name));
    }
    return {};
  }

  Result<void> pair(const FileHandle* before, const FileHandle* after, const std::string& parent,
                    const std::string& name) {
    if (after == nullptr) {
      if (before == nullptr) return {};
      FASTDOCK_CHECK(write_parents());
      return writing_ ? writer_.add_whiteout(parent, name) : Result<void>{};
    }
    if (after->is_directory())
      return directory(before != nullptr && before->is_directory() ? before : nullptr, *after);
    bool several = after->status().st_nlink > 1;
    bool changed = several && together_.contains(inode(*after));
    if (!changed) {
      FASTDOCK_TRY(bool same, before == nullptr ? Result<bool>(false) : same_file(*before, *after));
      changed = !same;
    }
    // Unchanged one by one, but names of another file than before.
    if (several && !changed)
      changed = origins_.try_emplace(inode(*after), inode(*before)).first->second != inode(*before);
    if (!changed) return {};
    if (several) together_.insert(inode(*after));
    FASTDOCK_CHECK(write_parents());
    return writing_ ? writer_.add(*after) : Result<void>{};
  }

  // The directories above what is written, so that a layer lists the parents of its files.
  Result<void> write_parents() {
    for (const FileHandle* directory : pending_)
      if (writing_ && directory != nullptr) FASTDOCK_CHECK(writer_.add(*directory));
    pending_.clear();
    return {};
  }

  TreeWriter& writer_;
  bool writing_ = false;
  std::vector<const FileHandle*> pending_;  // entered, not written
  std::set<Inode> together_;
  std::map<Inode, Inode> origins_;
};

class ChangeWalk {
 public:
  explicit ChangeWalk(const Stack& lower) : lower_(lower) {}

  Result<void> contents(const FileHandle& directory) {
    FASTDOCK_TRY(Fd fd, directory.reopen());
    FASTDOCK_TRY(std::vector<std::string> names, list_names(fd.get(), directory.path()));
    FASTDOCK_TRY(bool opaque, is_opaque(directory.get(), directory.path()));
    if (opaque) {
      FASTDOCK_TRY(std::vector<std::string> below, lower_.list(directory.path()));
      std::vector<std::string> gone;
      std::ranges::set_difference(below, names, std::back_inserter(gone));
      for (const std::string& name : gone) add(Change::Kind::kDeleted, join_path(directory.path(), name));
    }
    for (const std::string& name : names) {
      FASTDOCK_TRY(FileHandle file, FileHandle::open(fd.get(), name, join_path(directory.path(), name)));
      FASTDOCK_TRY(std::optional<Stack::Found> known, lower_.find(file.path(), lower_.size()));
      if (whiteout(file)) {
        if (known) add(Change::Kind::kDeleted, file.path());
        continue;
      }
      add(known ? Change::Kind::kChanged : Change::Kind::kAdded, file.path());
      if (file.is_directory()) FASTDOCK_CHECK(contents(file));
    }
    return {};
  }

  std::vector<Change> found;

 private:
  void add(Change::Kind kind, const std::string& path) { found.push_back({kind, "/" + path}); }

  const Stack& lower_;
};

// Runs `walk` over a writer for `output`.
template <class Walk>
Result<LayerResult> write_layer(int output, const OutputOptions& options, Walk&& walk) {
  FASTDOCK_TRY(std::unique_ptr<LayerOutput> out, LayerOutput::create(output, options.compression));
  TreeWriter writer(*out, options.offset);
  FASTDOCK_CHECK(walk(writer));
  return writer.finish();
}

}  // namespace

Result<LayerResult> write_diff(const std::string& upper, int output, const OutputOptions& options) {
  FASTDOCK_TRY(FileHandle root, open_root(upper));
  return write_layer(output, options,
                     [&](TreeWriter& writer) { return UpperWalk(writer, options.offset).root(root); });
}

Result<LayerResult> write_directory_diff(const std::string& before, const std::string& after, int output,
                                         const OutputOptions& options) {
  FASTDOCK_TRY(FileHandle old_root, open_root(before));
  FASTDOCK_TRY(FileHandle new_root, open_root(after));
  return write_layer(output, options,
                     [&](TreeWriter& writer) { return TreeDiff(writer).run(old_root, new_root); });
}

Result<LayerResult> write_tar(const std::string& directory, int output, const OutputOptions& options) {
  FASTDOCK_TRY(FileHandle root, open_root(directory));
  return write_layer(output, options, [&](TreeWriter& writer) { return TreeWalk(writer).root(root); });
}

Result<std::vector<Change>> changes(const std::string& upper, const std::vector<std::string>& lower) {
  FASTDOCK_TRY(FileHandle root, open_root(upper));
  FASTDOCK_TRY(Stack stack, Stack::open(lower));
  ChangeWalk walk(stack);
  FASTDOCK_CHECK(walk.contents(root));
  return std::move(walk.found);
}

}  // namespace fastdock::layer
