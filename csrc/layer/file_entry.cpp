#include "layer/file_entry.h"

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/directory_stream.h"
#include "base/path.h"
#include "layer/attributes.h"
#include "layer/chunk.h"

namespace fastdock::layer {
namespace {

constexpr std::size_t kHoleBlock = std::size_t{64} << 10;
constexpr std::uint64_t kWorthwhile = std::uint64_t{1} << 20;

Result<std::size_t> read_at(int fd, std::span<std::uint8_t> to, std::uint64_t offset, std::string_view path) {
  std::size_t have = 0;
  while (have < to.size()) {
    ssize_t count = ::pread(fd, to.data() + have, to.size() - have, static_cast<off_t>(offset + have));
    if (count == 0) break;
    if (count < 0) {
      if (errno == EINTR) continue;
      return failed(Operation::kReadFile, path);
    }
    have += static_cast<std::size_t>(count);
  }
  return have;
}

bool all_zero(Bytes bytes) {
  // Each byte equals the next one, and the first is zero.
  return bytes.empty() ||
         (bytes[0] == 0 && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

std::optional<EntryType> type_of(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return EntryType::kFile;
    case S_IFDIR:
      return EntryType::kDirectory;
    case S_IFLNK:
      return EntryType::kSymlink;
    case S_IFCHR:
      return EntryType::kCharacterDevice;
    case S_IFBLK:
      return EntryType::kBlockDevice;
    case S_IFIFO:
      return EntryType::kFifo;
    default:
      return std::nullopt;
  }
}

}  // namespace

Result<FileHandle> FileHandle::open(int parent, const std::string& name, std::string path) {
  FASTDOCK_TRY(Fd fd, open_at(parent, name, O_PATH | O_NOFOLLOW));
  FileHandle file(std::move(fd), std::move(path));
  if (::fstat(file.get(), &file.status_) != 0) return failed(Operation::kInspectFile, file.path_);
  return file;
}

Result<Fd> FileHandle::reopen() const {
  // Through /proc: opens this very file, whatever the name leads to by now.
  int flags = O_RDONLY | (is_directory() ? O_DIRECTORY : 0);
  return open_file(descriptor_path(get()), flags);
}

Result<std::optional<Entry>> FileHandle::entry(const IdOffset& offset) const {
  auto type = type_of(status_.st_mode);
  if (!type) return std::nullopt;
  Entry entry;
  entry.type = *type;
  entry.name = path_;
  entry.mode = status_.st_mode & 07777;
  // An id below the namespace's belongs to nobody in it, and an archive has no way to say so.
  if (status_.st_uid < offset.uid || status_.st_gid < offset.gid)
    return failed_with(EOVERFLOW, Operation::kInspectFile, path_);
  entry.uid = status_.st_uid - offset.uid;
  entry.gid = status_.st_gid - offset.gid;
  entry.mtime = status_.st_mtim;
  if (entry.type == EntryType::kFile) entry.size = static_cast<std::uint64_t>(status_.st_size);
  if (entry.type == EntryType::kCharacterDevice || entry.type == EntryType::kBlockDevice) {
    entry.device_major = major(status_.st_rdev);
    entry.device_minor = minor(status_.st_rdev);
  }
  if (entry.type == EntryType::kSymlink) {
    entry.link.resize(4096);
    ssize_t size = ::readlinkat(get(), "", entry.link.data(), entry.link.size());
    if (size < 0) return failed(Operation::kInspectFile, path_);
    entry.link.resize(static_cast<std::size_t>(size));
  }
  FASTDOCK_TRY(entry.attributes, get_attributes(get(), path_));
  FASTDOCK_CHECK(shift_ids(entry.attributes, offset.uid, offset.gid, path_));
  return entry;
}

FileData::FileData(Fd fd, const Entry& entry)
    : fd_(std::move(fd)),
      path_(entry.name),
      extents_(entry.sparse ? entry.extents : std::vector<Extent>{{0, entry.size}}) {}

Result<EntryData::Piece> FileData::read() {
  while (extent_ < extents_.size() && extents_[extent_].size == 0) ++extent_;
  if (extent_ == extents_.size()) return Piece{};
  if (!buffer_) buffer_ = std::make_unique_for_overwrite<std::uint8_t[]>(kChunkSize);
  Extent& extent = extents_[extent_];
  auto most = static_cast<std::size_t>(std::min<std::uint64_t>(extent.size, kChunkSize));
  FASTDOCK_TRY(std::size_t count, read_at(fd_.get(), {buffer_.get(), most}, extent.offset, path_));
  if (count < most) return failed_with(ESTALE, Operation::kReadFile, path_, Hint::kChangedWhileRead);
  Piece piece{extent.offset, Bytes(buffer_.get(), count)};
  extent.offset += count;
  extent.size -= count;
  return piece;
}

Result<void> find_holes(int fd, Entry& entry) {
  if (entry.size < kWorthwhile) return {};
  std::vector<Extent> extents;
  std::uint64_t with_data = 0;
  std::uint64_t next_data = 0;  // before it, the file system says, is nothing
  auto buffer = std::make_unique_for_overwrite<std::uint8_t[]>(kHoleBlock);
  for (std::uint64_t at = 0; at < entry.size; at += kHoleBlock) {
    auto size = static_cast<std::size_t>(std::min<std::uint64_t>(kHoleBlock, entry.size - at));
    if (at + size <= next_data) continue;
    if (at >= next_data) {
      off_t found = ::lseek(fd, static_cast<off_t>(at), SEEK_DATA);
      if (found < 0 && errno == ENXIO) break;  // lseek(2): no data from here on
      if (found >= 0) next_data = static_cast<std::uint64_t>(found);
      if (at + size <= next_data) continue;
      next_data = at;
    }
    FASTDOCK_TRY(std::size_t count, read_at(fd, {buffer.get(), size}, at, entry.name));
    if (count < size) return failed_with(ESTALE, Operation::kReadFile, entry.name, Hint::kChangedWhileRead);
    if (all_zero({buffer.get(), size})) continue;
    if (!extents.empty() && extents.back().offset + extents.back().size == at)
      extents.back().size += size;
    else
      extents.push_back({at, size});
    with_data += size;
  }
  if (entry.size - with_data < kWorthwhile) return {};
  entry.sparse = true;
  entry.extents = std::move(extents);
  return {};
}

Result<std::vector<std::string>> list_names(int directory, std::string_view path) {
  FASTDOCK_TRY(Fd fd, open_at(directory, ".", O_RDONLY | O_DIRECTORY));
  DirectoryStream stream(::fdopendir(fd.get()));
  if (!stream) return failed(Operation::kListDirectory, path);
  static_cast<void>(fd.release());
  std::vector<std::string> names;
  while (true) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());
    if (entry == nullptr) break;
    std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  if (errno != 0) return failed(Operation::kListDirectory, path);
  std::ranges::sort(names);
  return names;
}

}  // namespace fastdock::layer
