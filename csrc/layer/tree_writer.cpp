#include "layer/tree_writer.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace fastdock::layer {

Result<void> TreeWriter::add(const FileHandle& file) {
  FASTDOCK_TRY(std::optional<Entry> entry, file.entry(offset_));
  if (!entry) return {};
  if (entry->name.empty()) entry->name.push_back('.');
  NoData nothing;
  if (!file.is_directory() && file.status().st_nlink > 1) {
    auto [known, added] = written_.try_emplace({file.status().st_dev, file.status().st_ino}, entry->name);
    if (!added) {
      entry->type = EntryType::kHardLink;
      entry->link = known->second;
      entry->attributes.clear();
      return tar_.add(*entry, nothing);
    }
  }
  if (entry->type != EntryType::kFile) return tar_.add(*entry, nothing);
  FASTDOCK_TRY(Fd fd, file.reopen());
  FASTDOCK_CHECK(find_holes(fd.get(), *entry));
  FileData data(std::move(fd), *entry);
  return tar_.add(*entry, data);
}

Result<void> TreeWriter::add_mount_point(const FileHandle& file) {
  NoData nothing;
  Entry entry;
  entry.name = file.path();
  entry.type = file.is_directory() ? EntryType::kDirectory : EntryType::kFile;
  entry.mode = file.is_directory() ? 0755 : 0644;
  return tar_.add(entry, nothing);
}

Result<void> TreeWriter::add_marker(std::string path) {
  NoData nothing;
  Entry entry;
  entry.name = std::move(path);
  return tar_.add(entry, nothing);
}

Result<void> TreeWriter::add_whiteout(std::string_view directory, std::string_view name) {
  std::string marker = ".wh.";
  marker += name;
  return add_marker(join_path(directory, marker));
}

Result<void> TreeWriter::add_opaque(std::string_view directory) {
  return add_marker(join_path(directory, ".wh..wh..opq"));
}

Result<LayerResult> TreeWriter::finish() {
  FASTDOCK_CHECK(tar_.finish());
  return output_.finish(tar_.entries());
}

Result<std::uint64_t> mount_of(const FileHandle& file) {
  struct statx status{};
  if (::statx(file.get(), "", AT_EMPTY_PATH, STATX_MNT_ID, &status) != 0)
    return failed(Operation::kInspectFile, file.path());
  return status.stx_mnt_id;
}

Result<std::optional<Fd>> open_same_mount(int parent, const std::string& name, std::string_view path) {
  open_how how{};
  how.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
  auto fd = static_cast<int>(::syscall(SYS_openat2, parent, name.c_str(), &how, sizeof how));
  if (fd >= 0) return Fd(fd);
  if (errno == EXDEV) return std::nullopt;
  return failed(Operation::kOpenFile, path);
}

}  // namespace fastdock::layer
