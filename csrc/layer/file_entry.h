// Files as entries: what the tar of a directory says of each, and their data.
#pragma once

#include <sys/stat.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "layer/layer.h"
#include "layer/name.h"

namespace fastdock::layer {

// The ids of files minus these are those of the archive: the files of a container in a user namespace
// belong to ids that begin there.
struct IdOffset {
  uid_t uid = 0;
  gid_t gid = 0;
};

// One file, opened O_PATH once, so that everything said of it is of the same file however fast a
// container swaps names.
class FileHandle {
 public:
  // `name` in `parent`; `path` is for messages and entries.
  static Result<FileHandle> open(int parent, const std::string& name, std::string path);

  [[nodiscard]] const struct stat& status() const { return status_; }
  [[nodiscard]] int get() const { return fd_.get(); }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] bool is_directory() const { return S_ISDIR(status_.st_mode); }

  // What an archive says of it; none for a socket, which no archive holds.
  Result<std::optional<Entry>> entry(const IdOffset& offset) const;
  // Opened for reading: a regular file or a directory.
  Result<Fd> reopen() const;

 private:
  FileHandle(Fd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  Fd fd_;
  std::string path_;
  struct stat status_{};
};

// The data of a regular file as `entry` describes it.
class FileData final : public EntryData {
 public:
  FileData(Fd fd, const Entry& entry);
  Result<Piece> read() override;

 private:
  Fd fd_;
  std::string path_;
  std::vector<Extent> extents_;
  std::size_t extent_ = 0;
  std::unique_ptr<std::uint8_t[]> buffer_;
};

// Of what has no data.
class NoData final : public EntryData {
 public:
  Result<Piece> read() override { return Piece{}; }
};

// Makes `entry` sparse if the file has a worthwhile amount of zeros.  It looks at the data alone, not at
// how a file system stores it, so that the same files give the same archive everywhere.
Result<void> find_holes(int fd, Entry& entry);

// The names in a directory, sorted as bytes.
Result<std::vector<std::string>> list_names(int directory, std::string_view path);

}  // namespace fastdock::layer
