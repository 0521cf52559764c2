#include "layer/pax.h"

#include <algorithm>
#include <climits>

#include "layer/name.h"
#include "layer/tar_fields.h"

namespace fastdock::layer {
namespace {

// Ids that chown(2) takes as they are: -1 means "leave it", and larger ones would be cut (CVE-2024-40635).
constexpr std::uint64_t kLargestId = 0xFFFFFFFE;
// Far more than any writer needs; they keep the searches below from being quadratic in what an attacker
// chooses.
constexpr std::size_t kMostRecords = 1000;
constexpr std::size_t kMostAttributes = 256;
constexpr std::string_view kSchilyAttribute = "SCHILY.xattr.";
constexpr std::string_view kLibarchiveAttribute = "LIBARCHIVE.xattr.";

std::optional<std::string> decode_base64(std::string_view text) {
  std::string bytes;
  std::uint32_t bits = 0;
  int count = 0;
  while (text.ends_with('=')) text.remove_suffix(1);
  for (char symbol : text) {
    constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    auto value = kAlphabet.find(symbol);
    if (value == std::string_view::npos) return std::nullopt;
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    count += 6;
    if (count >= 8) {
      count -= 8;
      bytes += static_cast<char>(bits >> count & 0xff);
    }
  }
  return bytes;
}

int hexadecimal(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
  return -1;
}

// libarchive writes names of attributes with %XX for what is not printable ASCII.
std::string decode_percent(std::string_view text) {
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      int high = hexadecimal(text[i + 1]);
      int low = hexadecimal(text[i + 2]);
      if (high >= 0 && low >= 0) {
        bytes += static_cast<char>(high << 4 | low);
        i += 2;
        continue;
      }
    }
    bytes += text[i];
  }
  return bytes;
}

// Extents of GNU.sparse.map: "offset,size,offset,size".
bool parse_sparse_map(std::string_view text, std::vector<Extent>& extents) {
  extents.clear();
  while (!text.empty()) {
    std::uint64_t pair[2];
    for (std::uint64_t& number : pair) {
      auto end = std::min(text.find(','), text.size());
      auto parsed = parse_decimal(text.substr(0, end));
      if (!parsed) return false;
      number = *parsed;
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    extents.push_back({pair[0], pair[1]});
  }
  return true;
}

class Applier {
 public:
  Applier(Entry& entry, PaxOverrides& overrides, const Limits& limits)
      : entry_(entry), overrides_(overrides), limits_(limits) {}

  Result<void> apply(const std::string& key, const std::string& value) {
    // POSIX: an empty value takes back what a global header said; an attribute may well be empty.
    if (key.starts_with(kSchilyAttribute)) return attribute(key.substr(kSchilyAttribute.size()), value);
    if (key.starts_with(kLibarchiveAttribute)) {
      auto decoded = decode_base64(value);
      if (!decoded) return malformed(key);
      return attribute(decode_percent(std::string_view(key).substr(kLibarchiveAttribute.size())), *decoded);
    }
    if (value.empty()) return {};
    bool fine = key.starts_with("GNU.sparse.") ? sparse(key, value) : plain(key, value);
    return fine ? Result<void>{} : malformed(key);
  }

  // The name of a sparse file: `path` is then one that GNU tar made up for other readers.
  std::string sparse_name;

 private:
  Result<void> malformed(const std::string& key) { return refused(Hint::kCorruptArchive, "pax " + key); }

  bool plain(const std::string& key, const std::string& value) {
    if (key == "path") return text(value, entry_.name);
    if (key == "linkpath") return text(value, entry_.link);
    if (key == "size") return number(value, overrides_.size);
    if (key == "uid") return id(value, entry_.uid);
    if (key == "gid") return id(value, entry_.gid);
    if (key == "SCHILY.devmajor") return device(value, entry_.device_major);
    if (key == "SCHILY.devminor") return device(value, entry_.device_minor);
    if (key == "mtime") {
      auto time = parse_time(value);
      if (time) entry_.mtime = *time;
      return time.has_value();
    }
    // atime, ctime, uname, gname, comment, charset, hdrcharset and those of other vendors: names are
    // bytes here, owners are numbers, and a file's times of access and change are its own.
    return true;
  }

  bool sparse(const std::string& key, const std::string& value) {
    if (key == "GNU.sparse.name") return text(value, sparse_name);
    if (key == "GNU.sparse.major") return text(value, overrides_.sparse_major);
    if (key == "GNU.sparse.minor") return text(value, overrides_.sparse_minor);
    if (key == "GNU.sparse.size" || key == "GNU.sparse.realsize")
      return number(value, overrides_.sparse_size);
    if (key == "GNU.sparse.map") {
      overrides_.sparse_map = true;
      return parse_sparse_map(value, entry_.extents);
    }
    if (key == "GNU.sparse.offset") {  // 0.0: pairs of records
      overrides_.sparse_map = true;
      auto offset = parse_decimal(value);
      if (offset) entry_.extents.push_back({*offset, 0});
      return offset.has_value();
    }
    if (key == "GNU.sparse.numbytes") {
      auto size = parse_decimal(value);
      if (!size || entry_.extents.empty()) return false;
      entry_.extents.back().size = *size;
    }
    return true;  // GNU.sparse.numblocks repeats what can be counted
  }

  static bool text(const std::string& value, std::string& to) {
    to = value;
    return value.find('\0') == std::string::npos;
  }
  static bool number(const std::string& value, std::optional<std::uint64_t>& to) {
    to = parse_decimal(value);
    return to.has_value();
  }
  static bool id(const std::string& value, std::uint32_t& to) {
    auto parsed = parse_decimal(value);
    if (!parsed || *parsed > kLargestId) return false;
    to = static_cast<std::uint32_t>(*parsed);
    return true;
  }
  static bool device(const std::string& value, unsigned& to) {
    auto parsed = parse_decimal(value);
    if (!parsed || *parsed > UINT_MAX) return false;
    to = static_cast<unsigned>(*parsed);
    return true;
  }

  Result<void> attribute(std::string name, const std::string& value) {
    if (value.size() > limits_.attribute) return over_limit(name, "max_xattr");
    // xattr(7): XATTR_NAME_MAX is 255.
    if (name.empty() || name.size() > 255 || name.find('\0') != std::string::npos)
      return refused(Hint::kCorruptArchive, "xattr " + name);
    // libarchive writes each attribute in both ways.
    auto known = std::ranges::find(entry_.attributes, name, &Attribute::name);
    if (known == entry_.attributes.end())
      entry_.attributes.push_back({std::move(name), value});
    else
      known->value = value;
    if (entry_.attributes.size() > kMostAttributes)
      return over_limit(entry_.name, "extended attributes of a file");
    return {};
  }

  Entry& entry_;
  PaxOverrides& overrides_;
  const Limits& limits_;
};

}  // namespace

Result<PaxRecords> parse_pax(std::string_view text) {
  PaxRecords records;
  std::size_t countable = 0;  // GNU.sparse 0.0 alone repeats its keys, for each part of the file
  while (!text.empty()) {
    auto blank = text.find(' ');
    auto length = blank == std::string_view::npos ? std::nullopt : parse_decimal(text.substr(0, blank));
    if (!length || *length > text.size() || *length < blank + 3 || text[*length - 1] != '\n')
      return refused(Hint::kCorruptArchive, "pax header");
    std::string_view record = text.substr(blank + 1, *length - blank - 2);
    auto equals = record.find('=');
    if (equals == std::string_view::npos || equals == 0) return refused(Hint::kCorruptArchive, "pax header");
    records.emplace_back(record.substr(0, equals), record.substr(equals + 1));
    if (!record.starts_with("GNU.sparse.") && ++countable > kMostRecords)
      return over_limit("pax header", "its number of keys");
    text.remove_prefix(*length);
  }
  return records;
}

Result<PaxOverrides> apply_pax(const PaxRecords& global, const PaxRecords& local, Entry& entry,
                               const Limits& limits) {
  PaxOverrides overrides;
  Applier applier(entry, overrides, limits);
  for (const auto& [key, value] : global) {
    bool replaced = std::ranges::any_of(local, [&](const auto& record) { return record.first == key; });
    if (!replaced) FASTDOCK_CHECK(applier.apply(key, value));
  }
  for (const auto& [key, value] : local) FASTDOCK_CHECK(applier.apply(key, value));
  if (!applier.sparse_name.empty()) entry.name = applier.sparse_name;
  return overrides;
}

}  // namespace fastdock::layer
