#include "layer/tar_writer.h"

#include <array>
#include <cstring>
#include <string>

#include "layer/tar_fields.h"

namespace fastdock::layer {
namespace {

// "LENGTH KEY=VALUE\n", where LENGTH counts its own digits.
void add_record(std::string& pax, std::string_view key, std::string_view value) {
  std::size_t rest = key.size() + value.size() + 3;
  std::size_t length = rest + std::to_string(rest).size();
  length = rest + std::to_string(length).size();
  pax.append(std::to_string(length)).append(" ").append(key).append("=").append(value).append("\n");
}

std::string encode_base64(std::string_view bytes) {
  constexpr char kAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  std::uint32_t bits = 0;
  int count = 0;
  for (char byte : bytes) {
    bits = bits << 8 | static_cast<std::uint8_t>(byte);
    for (count += 8; count >= 6; count -= 6) text += kAlphabet[bits >> (count - 6) & 63];
  }
  if (count > 0) text += kAlphabet[bits << (6 - count) & 63];
  return text;
}

// Every reader knows star's records, but their keys cannot hold "=".  libarchive's are encoded.
void add_attribute(std::string& pax, const Attribute& attribute) {
  if (attribute.name.find('=') == std::string::npos) {
    add_record(pax, "SCHILY.xattr." + attribute.name, attribute.value);
    return;
  }
  std::string name;
  for (char symbol : attribute.name) {
    if (symbol == '=')
      name += "%3D";
    else if (symbol == '%')
      name += "%25";
    else
      name += symbol;
  }
  add_record(pax, "LIBARCHIVE.xattr." + name, encode_base64(attribute.value));
}

char type_flag(EntryType type) {
  switch (type) {
    case EntryType::kFile:
      return '0';
    case EntryType::kHardLink:
      return '1';
    case EntryType::kSymlink:
      return '2';
    case EntryType::kCharacterDevice:
      return '3';
    case EntryType::kBlockDevice:
      return '4';
    case EntryType::kDirectory:
      return '5';
    case EntryType::kFifo:
      return '6';
  }
  return '0';
}

// pax allows "-1.5"; a time before 1970 has its nanoseconds counted forwards.
std::string format_time(timespec time) {
  std::int64_t seconds = time.tv_sec;
  long nanoseconds = time.tv_nsec;
  bool negative = seconds < 0;
  if (negative && nanoseconds != 0) {
    seconds += 1;
    nanoseconds = 1'000'000'000 - nanoseconds;
  }
  std::string text = negative ? "-" : "";
  text += std::to_string(negative ? -seconds : seconds);
  if (nanoseconds == 0) return text;
  std::string digits = std::to_string(nanoseconds);
  text.append(".").append(9 - digits.size(), '0').append(digits);
  while (text.ends_with('0')) text.pop_back();
  return text;
}

class Header {
 public:
  void put(std::size_t offset, std::size_t size, std::string_view text) {
    std::memcpy(bytes_.data() + offset, text.data(), std::min(size, text.size()));
  }
  // `size` includes the NUL at the end.  False, and zero in the field, if the number has no room.
  bool put_octal(std::size_t offset, std::size_t size, std::int64_t value) {
    bool fits = value >= 0 && value >> 3 * (size - 1) == 0;
    if (!fits) value = 0;
    for (std::size_t i = size - 1; i-- > 0; value >>= 3)
      bytes_[offset + i] = static_cast<std::uint8_t>('0' + (value & 7));
    return fits;
  }
  // The name, split at a slash if it must be.  False if it does not fit.
  bool put_name(std::string_view name) {
    if (name.size() <= 100) {
      put(0, 100, name);
      return true;
    }
    auto slash = name.size() > 101 ? name.find('/', name.size() - 101) : name.find('/');
    if (slash == std::string_view::npos || slash == 0 || slash > 155 || slash + 1 == name.size()) {
      put(0, 100, name);
      return false;
    }
    put(345, 155, name.substr(0, slash));
    put(0, 100, name.substr(slash + 1));
    return true;
  }
  Bytes finish() {
    put(257, 8, std::string_view("ustar\00000", 8));
    put(148, 8, "        ");
    unsigned sum = 0;
    for (std::uint8_t byte : bytes_) sum += byte;
    put_octal(148, 7, sum);
    bytes_[154] = 0;
    return bytes_;
  }
  std::array<std::uint8_t, kBlock>& bytes() { return bytes_; }

 private:
  std::array<std::uint8_t, kBlock> bytes_{};
};

// GNU.sparse 1.0: the map as it stands before the data.  A file that ends in a hole has an empty part there.
std::string sparse_map(const Entry& entry) {
  std::vector<Extent> extents = entry.extents;
  std::uint64_t end = extents.empty() ? 0 : extents.back().offset + extents.back().size;
  if (end != entry.size) extents.push_back({entry.size, 0});
  std::string map = std::to_string(extents.size()) + "\n";
  for (const Extent& extent : extents)
    map.append(std::to_string(extent.offset)).append("\n").append(std::to_string(extent.size)).append("\n");
  map.append((kBlock - map.size() % kBlock) % kBlock, '\0');
  return map;
}

std::uint64_t data_size(const Entry& entry) {
  if (entry.type != EntryType::kFile) return 0;
  if (!entry.sparse) return entry.size;
  std::uint64_t size = 0;
  for (const Extent& extent : entry.extents) size += extent.size;
  return size;
}

}  // namespace

Result<void> TarWriter::write_text(std::string_view text) {
  return sink_.write({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
}

Result<void> TarWriter::pad(std::uint64_t size) {
  constexpr std::array<std::uint8_t, kBlock> kZeros{};
  return sink_.write(Bytes(kZeros).first((kBlock - size % kBlock) % kBlock));
}

Result<void> TarWriter::write_header(const Entry& entry, char type, std::uint64_t size, std::string& pax) {
  Header header;
  std::string name = entry.name;
  if (entry.type == EntryType::kDirectory) name += '/';
  if (entry.sparse) {
    // What readers that know nothing of sparse files would make; GNU tar's own scheme.
    if (!header.put_name("GNUSparseFile.0/" + name)) add_record(pax, "path", "GNUSparseFile.0/" + name);
  } else if (!header.put_name(name)) {
    add_record(pax, "path", name);
  }
  header.put(157, 100, entry.link);
  if (entry.link.size() > 100) add_record(pax, "linkpath", entry.link);
  header.put_octal(100, 8, entry.mode);
  if (!header.put_octal(108, 8, entry.uid)) add_record(pax, "uid", std::to_string(entry.uid));
  if (!header.put_octal(116, 8, entry.gid)) add_record(pax, "gid", std::to_string(entry.gid));
  if (!header.put_octal(124, 12, static_cast<std::int64_t>(size)))
    add_record(pax, "size", std::to_string(size));
  if (!header.put_octal(136, 12, entry.mtime.tv_sec) || entry.mtime.tv_nsec != 0)
    add_record(pax, "mtime", format_time(entry.mtime));
  if (!header.put_octal(329, 8, entry.device_major))
    add_record(pax, "SCHILY.devmajor", std::to_string(entry.device_major));
  if (!header.put_octal(337, 8, entry.device_minor))
    add_record(pax, "SCHILY.devminor", std::to_string(entry.device_minor));
  header.bytes()[156] = static_cast<std::uint8_t>(type);

  if (!pax.empty()) {
    Header extended;
    extended.put_name("PaxHeaders.0/" + name.substr(0, 80));
    extended.put_octal(100, 8, 0644);
    extended.put_octal(108, 8, 0);
    extended.put_octal(116, 8, 0);
    extended.put_octal(124, 12, static_cast<std::int64_t>(pax.size()));
    extended.put_octal(136, 12, 0);
    extended.bytes()[156] = 'x';
    FASTDOCK_CHECK(sink_.write(extended.finish()));
    FASTDOCK_CHECK(write_text(pax));
    FASTDOCK_CHECK(pad(pax.size()));
  }
  return sink_.write(header.finish());
}

Result<void> TarWriter::add(const Entry& entry, EntryData& data) {
  ++entries_;
  std::string pax;
  for (const Attribute& attribute : entry.attributes) add_attribute(pax, attribute);
  std::uint64_t size = data_size(entry);
  std::string map;
  if (entry.sparse) {
    add_record(pax, "GNU.sparse.major", "1");
    add_record(pax, "GNU.sparse.minor", "0");
    add_record(pax, "GNU.sparse.name", entry.name);
    add_record(pax, "GNU.sparse.realsize", std::to_string(entry.size));
    map = sparse_map(entry);
  }
  FASTDOCK_CHECK(write_header(entry, type_flag(entry.type), map.size() + size, pax));
  FASTDOCK_CHECK(write_text(map));
  if (entry.type != EntryType::kFile) return {};
  while (true) {
    FASTDOCK_TRY(EntryData::Piece piece, data.read());
    if (piece.data.empty()) break;
    FASTDOCK_CHECK(sink_.write(piece.data));
  }
  return pad(size);
}

Result<void> TarWriter::finish() {
  constexpr std::array<std::uint8_t, 2 * kBlock> kZeros{};
  return sink_.write(kZeros);
}

}  // namespace fastdock::layer
