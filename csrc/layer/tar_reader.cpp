#include "layer/tar_reader.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

#include "layer/name.h"

namespace fastdock::layer {
namespace {

// Of one extended header: Go's archive/tar has the same limit.
constexpr std::size_t kLargestPax = std::size_t{1} << 20;
constexpr std::size_t kMostGlobalKeys = 100;
constexpr std::size_t kMostExtents = std::size_t{1} << 20;

std::unexpected<Error> corrupt(std::string_view what) {
  return failed_with(EBADMSG, Operation::kReadArchive, what, Hint::kCorruptArchive);
}

std::uint64_t padding_of(std::uint64_t size) { return (kBlock - size % kBlock) % kBlock; }

// Extents must follow one another inside the file and use up exactly the data there is.
bool extents_fit(const std::vector<Extent>& extents, std::uint64_t data_size, std::uint64_t file_size) {
  std::uint64_t end = 0;
  std::uint64_t total = 0;
  for (const Extent& extent : extents) {
    if (extent.offset < end || extent.offset > file_size || extent.size > file_size - extent.offset)
      return false;
    end = extent.offset + extent.size;
    total += extent.size;
  }
  return total == data_size;
}

// Reads lines of the map that stands before the data of a GNU.sparse 1.0 file.
class MapLines {
 public:
  explicit MapLines(const std::string& text) : text_(text) {}
  // The next number, if its line is complete.
  std::optional<std::string_view> line() {
    auto end = text_.find('\n', position_);
    if (end == std::string::npos) return std::nullopt;
    std::string_view found = std::string_view(text_).substr(position_, end - position_);
    position_ = end + 1;
    return found;
  }
  [[nodiscard]] std::size_t incomplete() const { return text_.size() - position_; }

 private:
  const std::string& text_;
  std::size_t position_ = 0;
};

}  // namespace

Result<Bytes> TarReader::take(std::uint64_t most) {
  if (most == 0) return Bytes{};
  if (buffered_.empty()) {
    FASTDOCK_TRY(buffered_, source_.next());
  }
  auto count = static_cast<std::size_t>(std::min<std::uint64_t>(most, buffered_.size()));
  Bytes taken = buffered_.first(count);
  buffered_ = buffered_.subspan(count);
  return taken;
}

Result<const std::uint8_t*> TarReader::block() {
  FASTDOCK_TRY(Bytes bytes, take(kBlock));
  if (bytes.empty()) return nullptr;
  if (bytes.size() == kBlock) return bytes.data();
  std::size_t have = 0;
  while (true) {
    std::memcpy(straddling_.data() + have, bytes.data(), bytes.size());
    have += bytes.size();
    if (have == kBlock) return straddling_.data();
    FASTDOCK_TRY(bytes, take(kBlock - have));
    if (bytes.empty()) return corrupt("it ends inside of a header");
  }
}

Result<void> TarReader::skip(std::uint64_t count) {
  while (count != 0) {
    FASTDOCK_TRY(Bytes bytes, take(count));
    if (bytes.empty()) return corrupt("it ends inside of a file");
    count -= bytes.size();
  }
  return {};
}

Result<void> TarReader::skip_rest() {
  FASTDOCK_CHECK(skip(left_ + padding_));
  left_ = padding_ = 0;
  return {};
}

void TarReader::begin_data(std::uint64_t size) {
  left_ = size;
  padding_ = padding_of(size);
  offset_ = 0;
  extent_ = 0;
  extents_.clear();
  sparse_ = false;
}

Result<TarReader::Piece> TarReader::read() {
  if (left_ == 0) {
    FASTDOCK_CHECK(skip_rest());
    return Piece{};
  }
  std::uint64_t most = left_;
  if (sparse_) {
    while (extents_[extent_].size == 0) ++extent_;  // they sum up to left_, so there is another
    offset_ = extents_[extent_].offset;
    most = extents_[extent_].size;
  }
  FASTDOCK_TRY(Bytes data, take(most));
  if (data.empty()) return corrupt("it ends inside of a file");
  Piece piece{offset_, data};
  left_ -= data.size();
  offset_ += data.size();
  if (sparse_) {
    extents_[extent_].offset += data.size();
    extents_[extent_].size -= data.size();
  }
  return piece;
}

Result<std::string> TarReader::read_text(const TarHeader& header, std::size_t most) {
  auto size = parse_number(header.size());
  if (!size || *size < 0) return corrupt("the size of an extended header");
  if (static_cast<std::uint64_t>(*size) > most) return over_limit("extended header", "its size");
  std::string text;
  auto left = static_cast<std::uint64_t>(*size);
  std::uint64_t padding = padding_of(left);
  while (left != 0) {
    FASTDOCK_TRY(Bytes bytes, take(left));
    if (bytes.empty()) return corrupt("it ends inside of an extended header");
    text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    left -= bytes.size();
  }
  FASTDOCK_CHECK(skip(padding));
  return text;
}

Result<bool> TarReader::read_extension(const TarHeader& header) {
  switch (header.type()) {
    case 'x':
    case 'X': {  // Solaris' pax
      FASTDOCK_TRY(std::string text, read_text(header, kLargestPax));
      FASTDOCK_TRY(local_, parse_pax(text));
      return true;
    }
    case 'g': {
      FASTDOCK_TRY(std::string text, read_text(header, kLargestPax));
      FASTDOCK_TRY(PaxRecords records, parse_pax(text));
      for (auto& record : records) {
        std::erase_if(global_, [&](const auto& old) { return old.first == record.first; });
        if (!record.second.empty()) global_.push_back(std::move(record));
        if (global_.size() > kMostGlobalKeys) return over_limit("pax global header", "its number of keys");
      }
      return true;
    }
    case 'L':
    case 'K': {
      FASTDOCK_TRY(std::string text, read_text(header, limits_.name + 1));
      text.resize(std::min(text.find('\0'), text.size()));
      (header.type() == 'L' ? long_name_ : long_link_) = std::move(text);
      return true;
    }
    case 'V':    // GNU: the label of a volume
    case 'A': {  // Solaris: an ACL of its own kind
      FASTDOCK_CHECK(read_text(header, kLargestPax));
      return true;
    }
    default:
      return false;
  }
}

Result<std::optional<Entry>> TarReader::next() {
  FASTDOCK_CHECK(skip_rest());
  while (!finished_) {
    FASTDOCK_TRY(const std::uint8_t* block, this->block());
    // POSIX wants two blocks of zeros at the end.  Go's reader, hence Docker, also takes the end of the data.
    if (block == nullptr) break;
    // A copy: reading on makes the block itself invalid, and the header is still needed then.
    std::array<std::uint8_t, kBlock> copy;
    std::memcpy(copy.data(), block, kBlock);
    TarHeader header(copy.data());
    if (header.zero()) {
      FASTDOCK_TRY(const std::uint8_t* second, this->block());
      if (second != nullptr && !TarHeader(second).zero()) return corrupt("a single block of zeros");
      break;
    }
    if (!header.checksum_fits()) return corrupt("the checksum of a header");
    FASTDOCK_TRY(bool extension, read_extension(header));
    if (extension) {
      // A file has a few of them at most: pax, long name, long link.
      if (++extensions_ / 4 > limits_.entries) return over_limit(header.name(), "max_entries");
      continue;
    }
    if (++entries_ > limits_.entries) return over_limit(header.name(), "max_entries");
    FASTDOCK_TRY(Entry entry, make_entry(header));
    local_.clear();
    long_name_.reset();
    long_link_.reset();
    return entry;
  }
  bool dangling = !local_.empty() || long_name_ || long_link_;
  finished_ = true;
  if (dangling) return corrupt("it ends after an extended header");
  return std::nullopt;
}

Result<void> TarReader::set_type(char type, Entry& entry) {
  switch (type) {
    case '0':
    case '\0':  // before POSIX
    case '7':   // contiguous: an ordinary file nowadays
    case 'S':   // GNU: sparse
      // Before POSIX had a type for directories, they were files whose name ends in a slash.
      entry.type = entry.name.ends_with('/') ? EntryType::kDirectory : EntryType::kFile;
      return {};
    case '1':
      entry.type = EntryType::kHardLink;
      return {};
    case '2':
      entry.type = EntryType::kSymlink;
      return {};
    case '3':
      entry.type = EntryType::kCharacterDevice;
      return {};
    case '4':
      entry.type = EntryType::kBlockDevice;
      return {};
    case '5':
    case 'D':  // GNU: a directory, with a list of its files as data
      entry.type = EntryType::kDirectory;
      return {};
    case '6':
      entry.type = EntryType::kFifo;
      return {};
    default:
      return refused(Hint::kUnsupportedEntry, entry.name + " (type " + std::string(1, type) + ")");
  }
}

Result<void> TarReader::fill_fields(const TarHeader& header, Entry& entry) {
  auto id = [](std::string_view field) -> std::optional<std::uint32_t> {
    auto value = parse_number(field);
    // chown(2) takes 2^32-1 for "leave it as it is".
    if (!value || *value < 0 || *value >= UINT32_MAX) return std::nullopt;
    return static_cast<std::uint32_t>(*value);
  };
  entry.name = header.prefix();
  if (!entry.name.empty()) entry.name += '/';
  entry.name += header.name();
  entry.link = header.link();
  auto mode = parse_number(header.mode());
  auto mtime = parse_number(header.mtime());
  auto major = parse_number(header.device_major());
  auto minor = parse_number(header.device_minor());
  if (!mode || !mtime) return corrupt(entry.name);
  entry.mode = static_cast<mode_t>(*mode & 07777);
  entry.mtime = {*mtime, 0};
  bool device = header.type() == '3' || header.type() == '4';
  if (device && (!major || !minor || *major < 0 || *minor < 0 || *major > UINT_MAX || *minor > UINT_MAX))
    return corrupt(entry.name);
  entry.device_major = device ? static_cast<unsigned>(*major) : 0;
  entry.device_minor = device ? static_cast<unsigned>(*minor) : 0;
  // A field that does not hold its number is no matter if a pax record does.
  auto given = [&](std::string_view key) {
    auto is_key = [&](const auto& record) { return record.first == key; };
    return std::ranges::any_of(local_, is_key) || std::ranges::any_of(global_, is_key);
  };
  auto uid = id(header.uid());
  auto gid = id(header.gid());
  if ((!uid && !given("uid")) || (!gid && !given("gid"))) return corrupt(entry.name + ": its owner");
  entry.uid = uid.value_or(0);
  entry.gid = gid.value_or(0);
  return {};
}

Result<void> TarReader::check_size(const Entry& entry) {
  if (entry.size > limits_.size - std::min(total_size_, limits_.size))
    return over_limit(entry.name, "max_size");
  total_size_ += entry.size;
  return {};
}

Result<Entry> TarReader::make_entry(const TarHeader& header) {
  Entry entry;
  char type = header.type();
  FASTDOCK_CHECK(fill_fields(header, entry));
  FASTDOCK_TRY(PaxOverrides pax, apply_pax(global_, local_, entry, limits_));
  if (long_name_) entry.name = *long_name_;
  if (long_link_) entry.link = *long_link_;
  FASTDOCK_CHECK(set_type(type, entry));

  auto stored = parse_number(header.size());
  if (!pax.size && (!stored || *stored < 0)) return corrupt(entry.name + ": its size");
  std::uint64_t data_size = pax.size ? *pax.size : static_cast<std::uint64_t>(*stored);
  // Links and special files have no data whatever the field says; Go's reader, and Python's, agree.
  if (entry.type != EntryType::kFile && type != 'D') data_size = 0;
  bool map_in_data = pax.sparse_major == "1" && pax.sparse_minor == "0";
  bool sparse = entry.type == EntryType::kFile && (type == 'S' || pax.sparse_map || map_in_data);
  entry.size = sparse && pax.sparse_size ? *pax.sparse_size : data_size;
  if (data_size > limits_.size) return over_limit(entry.name, "max_size");

  std::vector<Extent> extents = std::move(entry.extents);
  entry.extents.clear();
  if (sparse && type == 'S') {
    FASTDOCK_CHECK(read_old_sparse_map(header, entry, data_size));
    begin_data(data_size);
  } else {
    begin_data(data_size);
    if (sparse && map_in_data)
      FASTDOCK_CHECK(read_sparse_map(entry));
    else if (sparse)
      entry.extents = std::move(extents);
  }
  FASTDOCK_CHECK(check_size(entry));
  if (sparse) {
    entry.sparse = sparse_ = true;
    if (!extents_fit(entry.extents, left_, entry.size)) return corrupt(entry.name + ": its sparse map");
    extents_ = entry.extents;
  }
  return entry;
}

// GNU tar, "Old GNU Format": four extents in the header, 21 in each block that follows.
Result<void> TarReader::read_old_sparse_map(const TarHeader& header, Entry& entry, std::uint64_t data_size) {
  auto real_size = parse_number(header.raw(483, 12));
  if (!real_size || *real_size < 0) return corrupt(entry.name + ": its sparse map");
  entry.size = static_cast<std::uint64_t>(*real_size);
  const TarHeader* from = &header;
  std::optional<TarHeader> extension;
  std::size_t start = 386;
  std::size_t count = 4;
  while (true) {
    for (std::size_t i = 0; i < count; ++i) {
      std::string_view raw = from->raw(start + i * 24, 24);
      if (raw[0] == '\0') break;  // an unused place
      auto offset = parse_number(raw.substr(0, 12));
      auto size = parse_number(raw.substr(12));
      if (!offset || !size || *offset < 0 || *size < 0) return corrupt(entry.name + ": its sparse map");
      entry.extents.push_back({static_cast<std::uint64_t>(*offset), static_cast<std::uint64_t>(*size)});
    }
    if (entry.extents.size() > kMostExtents) return over_limit(entry.name, "parts of a sparse file");
    bool more = from->raw(start + count * 24, 1)[0] != '\0';
    if (!more) break;
    FASTDOCK_TRY(const std::uint8_t* next, block());
    if (next == nullptr) return corrupt("it ends inside of a sparse map");
    extension.emplace(next);
    from = &*extension;
    start = 0;
    count = 21;
  }
  if (data_size > entry.size) return corrupt(entry.name + ": its sparse map");
  return {};
}

// GNU.sparse 1.0: decimal numbers, a line each: how many extents, then offset and size of each, filled
// up to a whole block.
Result<void> TarReader::read_sparse_map(Entry& entry) {
  std::string text;
  MapLines lines(text);
  auto number = [&]() -> Result<std::uint64_t> {
    std::optional<std::string_view> line;
    while (!(line = lines.line())) {
      constexpr std::size_t kLongestNumber = 20;
      if (left_ < kBlock || lines.incomplete() > kLongestNumber)
        return corrupt(entry.name + ": its sparse map");
      FASTDOCK_TRY(const std::uint8_t* bytes, block());
      if (bytes == nullptr) return corrupt("it ends inside of a sparse map");
      left_ -= kBlock;
      text.append(reinterpret_cast<const char*>(bytes), kBlock);
    }
    auto value = parse_decimal(*line);
    if (!value) return corrupt(entry.name + ": its sparse map");
    return *value;
  };
  FASTDOCK_TRY(std::uint64_t count, number());
  if (count > kMostExtents) return over_limit(entry.name, "parts of a sparse file");
  for (std::uint64_t i = 0; i < count; ++i) {
    FASTDOCK_TRY(std::uint64_t offset, number());
    FASTDOCK_TRY(std::uint64_t size, number());
    entry.extents.push_back({offset, size});
  }
  return {};
}

}  // namespace fastdock::layer
