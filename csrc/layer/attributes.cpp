#include "layer/attributes.h"

#include <sys/xattr.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/user_namespace.h"
#include "layer/name.h"

namespace fastdock::layer {
namespace {

constexpr const char* kOpaqueNames[] = {"trusted.overlay.opaque", "user.overlay.opaque"};

// Reads with a buffer that grows until the answer fits; -1 with errno on failure.
template <class Call>
ssize_t read_growing(std::string& buffer, Call&& call) {
  buffer.resize(256);
  while (true) {
    ssize_t size = call(buffer.data(), buffer.size());
    if (size >= 0) {
      buffer.resize(static_cast<std::size_t>(size));
      return size;
    }
    if (errno != ERANGE || buffer.size() > (std::size_t{1} << 20)) return -1;
    buffer.resize(buffer.size() * 8);
  }
}

std::uint32_t read_le32(const std::string& bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = 4; i-- > 0;) value = value << 8 | static_cast<std::uint8_t>(bytes[at + i]);
  return value;
}

void write_le32(std::string& bytes, std::size_t at, std::uint32_t value) {
  for (std::size_t i = 0; i < 4; ++i) bytes[at + i] = static_cast<char>(value >> 8 * i & 0xff);
}

// linux/capability.h: revision 3 of vfs_cap_data is revision 2 and the id of its namespace's root.
void shift_capability(std::string& value, uid_t uid_offset) {
  constexpr std::uint32_t kRevision2 = 0x02000000;
  constexpr std::uint32_t kRevision3 = 0x03000000;
  constexpr std::uint32_t kRevisionMask = 0xFF000000;
  constexpr std::size_t kSize2 = 20;
  constexpr std::size_t kSize3 = 24;
  if (value.size() != kSize3) return;
  std::uint32_t magic = read_le32(value, 0);
  if ((magic & kRevisionMask) != kRevision3 || read_le32(value, kSize2) != uid_offset) return;
  write_le32(value, 0, (magic & ~kRevisionMask) | kRevision2);
  value.resize(kSize2);
}

// linux/posix_acl_xattr.h: a version, then {tag, permissions, id} of 2, 2 and 4 bytes.
bool shift_acl(std::string& value, uid_t uid_offset, gid_t gid_offset) {
  constexpr std::uint32_t kUser = 0x02;
  constexpr std::uint32_t kGroup = 0x08;
  for (std::size_t at = 4; at + 8 <= value.size(); at += 8) {
    std::uint32_t tag = read_le32(value, at) & 0xffff;
    if (tag != kUser && tag != kGroup) continue;
    std::uint32_t id = read_le32(value, at + 4);
    std::uint32_t offset = tag == kUser ? uid_offset : gid_offset;
    if (id < offset) return false;
    write_le32(value, at + 4, id - offset);
  }
  return true;
}

}  // namespace

bool is_overlay_private(std::string_view name) {
  return name.starts_with("trusted.overlay.") || name.starts_with("user.overlay.");
}

std::string descriptor_path(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

Result<void> set_attributes(int fd, const std::vector<Attribute>& attributes, std::string_view name,
                            std::uint64_t& skipped) {
  if (attributes.empty()) return {};
  std::string path = descriptor_path(fd);
  for (const Attribute& attribute : attributes) {
    if (is_overlay_private(attribute.name)) continue;
    // setxattr, not lsetxattr: the link to follow is the one in /proc, whose end is the file itself.
    if (::setxattr(path.c_str(), attribute.name.c_str(), attribute.value.data(), attribute.value.size(), 0) ==
        0)
      continue;
    // xattr(7): user.* is for files and directories only (EPERM), and a file system need not have any.
    bool refused_by_kind = errno == EPERM && attribute.name.starts_with("user.");
    // Some of security.* and all of trusted.* are the host's root's.
    bool refused_to_user = errno == EPERM && !in_initial_user_namespace();
    if (errno != EOPNOTSUPP && !refused_by_kind && !refused_to_user)
      return failed(Operation::kSetAttribute, attribute.name + " of " + std::string(name));
    ++skipped;
  }
  return {};
}

Result<std::vector<Attribute>> get_attributes(int fd, std::string_view name) {
  std::string path = descriptor_path(fd);
  std::string names;
  std::vector<Attribute> attributes;
  if (read_growing(names, [&](char* to, std::size_t size) { return ::listxattr(path.c_str(), to, size); }) <
      0) {
    if (errno == EOPNOTSUPP) return attributes;
    return failed(Operation::kInspectFile, name);
  }
  for (std::size_t at = 0; at < names.size();) {
    std::string key = names.c_str() + at;
    at += key.size() + 1;
    if (is_overlay_private(key)) continue;
    std::string value;
    auto get = [&](char* to, std::size_t size) { return ::getxattr(path.c_str(), key.c_str(), to, size); };
    if (read_growing(value, get) < 0) {
      if (errno == ENODATA) continue;  // gone since it was listed
      return failed(Operation::kInspectFile, key + " of " + std::string(name));
    }
    attributes.push_back({std::move(key), std::move(value)});
  }
  std::ranges::sort(attributes, {}, &Attribute::name);
  return attributes;
}

Result<bool> is_opaque(int fd, std::string_view name) {
  std::string path = descriptor_path(fd);
  for (const char* key : kOpaqueNames) {
    char value = 0;
    ssize_t size = ::getxattr(path.c_str(), key, &value, 1);
    if (size == 1 && value == 'y') return true;
    // EPERM, EACCES: trusted.* is not for this process, so no mount that it can make looks there.
    if (size < 0 && errno != ENODATA && errno != EOPNOTSUPP && errno != EPERM && errno != EACCES &&
        errno != ERANGE)
      return failed(Operation::kInspectFile, name);
  }
  return false;
}

Result<void> set_opaque(int fd, std::string_view name) {
  std::string path = descriptor_path(fd);
  bool any = false;
  for (const char* key : kOpaqueNames) any |= ::setxattr(path.c_str(), key, "y", 1, 0) == 0;
  if (!any) return failed(Operation::kSetAttribute, name, Hint::kUpperNotSupported);
  return {};
}

Result<bool> refers_elsewhere(int fd, std::string_view name) {
  std::string path = descriptor_path(fd);
  std::string names;
  if (read_growing(names, [&](char* to, std::size_t size) { return ::listxattr(path.c_str(), to, size); }) <
      0) {
    if (errno == EOPNOTSUPP) return false;
    return failed(Operation::kInspectFile, name);
  }
  for (std::size_t at = 0; at < names.size(); at += std::strlen(names.c_str() + at) + 1) {
    std::string_view key = names.c_str() + at;
    if (is_overlay_private(key) && (key.ends_with(".redirect") || key.ends_with(".metacopy"))) return true;
  }
  return false;
}

Result<void> shift_ids(std::vector<Attribute>& attributes, uid_t uid_offset, gid_t gid_offset,
                       std::string_view name) {
  if (uid_offset == 0 && gid_offset == 0) return {};
  for (Attribute& attribute : attributes) {
    if (attribute.name == "security.capability") shift_capability(attribute.value, uid_offset);
    if (!attribute.name.starts_with("system.posix_acl_")) continue;
    if (!shift_acl(attribute.value, uid_offset, gid_offset))
      return failed_with(EOVERFLOW, Operation::kInspectFile, name);
  }
  return {};
}

}  // namespace fastdock::layer
