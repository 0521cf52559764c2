// Walks directories and writes what it finds as a tar, in the order of names.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "layer/file_entry.h"
#include "layer/output.h"
#include "layer/tar_writer.h"

namespace fastdock::layer {

class TreeWriter {
 public:
  TreeWriter(LayerOutput& output, const IdOffset& offset) : output_(output), tar_(output), offset_(offset) {}

  // One file; the second name of one that has been written is a hard link.
  Result<void> add(const FileHandle& file);
  // What another file system is mounted on, which hides it: an empty file or directory of root's.
  Result<void> add_mount_point(const FileHandle& file);
  Result<void> add_whiteout(std::string_view directory, std::string_view name);
  Result<void> add_opaque(std::string_view directory);
  Result<LayerResult> finish();

 private:
  Result<void> add_marker(std::string path);

  LayerOutput& output_;
  TarWriter tar_;
  IdOffset offset_;
  std::map<std::pair<dev_t, ino_t>, std::string> written_;  // of those with several names
};

// The mount that a file is seen through.
Result<std::uint64_t> mount_of(const FileHandle& file);

// Opens a subdirectory for reading; none if another file system is mounted there.
Result<std::optional<Fd>> open_same_mount(int parent, const std::string& name, std::string_view path);

}  // namespace fastdock::layer
