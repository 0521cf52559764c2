#include "launch/users.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cerrno>

#include "base/raw_syscall.h"

namespace fastdock::launch {
namespace {

constexpr std::uint32_t kLargestId = 4294967294;

// Not string_view's ==, which calls memcmp.
bool same(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (a[i] != b[i]) return false;
  return true;
}

// A field of a line; what does not fit is counted out, so that a truncated name never matches.
class Field {
 public:
  Field(char* buffer, std::size_t capacity) : buffer_(buffer), capacity_(capacity) {}
  void clear() { size_ = 0, too_long_ = false; }
  void add(char byte) {
    if (size_ == capacity_) {
      too_long_ = true;
    } else {
      buffer_[size_++] = byte;
    }
  }
  [[nodiscard]] std::string_view text() const { return {buffer_, size_}; }
  [[nodiscard]] bool too_long() const { return too_long_; }
  [[nodiscard]] bool is(std::string_view text) const { return !too_long_ && same(this->text(), text); }

 private:
  char* buffer_;
  std::size_t capacity_;
  std::size_t size_ = 0;
  bool too_long_ = false;
};

enum class End : std::uint8_t { kField, kItem, kLine, kFile, kError };

// A file of lines of fields between colons, read from front to back.
class Fields {
 public:
  explicit Fields(ByteSource source) : source_(source) {}

  // Reads up to the next colon, the end of the line or, in a list, the next comma.  A last line without a
  // newline is a line: kFile means that there was nothing at all.
  End next(Field* field, bool list = false) {
    if (field != nullptr) field->clear();
    while (true) {
      if (position_ == filled_ && !fill()) return error_ != 0 ? End::kError : at_file_end();
      const char byte = buffer_[position_++];
      in_line_ = byte != '\n';
      if (byte == '\n') return End::kLine;
      if (byte == ':') return End::kField;
      if (list && byte == ',') return End::kItem;
      if (field != nullptr) field->add(byte);
    }
  }

  // Skips what is left of a line after `end`.  False at the end of the file.
  bool finish_line(End end) {
    while (end == End::kField || end == End::kItem) end = next(nullptr);
    return end == End::kLine;
  }

  [[nodiscard]] long error() const { return error_; }

 private:
  bool fill() {
    if (source_.read == nullptr || ended_) return false;
    long count;
    do {
      count = source_.read(source_.context, buffer_, sizeof buffer_);
    } while (count == -EINTR);
    if (count > 0) total_ += static_cast<std::size_t>(count);
    if (total_ > kMaxAccountFile) count = -EFBIG;
    if (count <= 0) {
      ended_ = true;
      error_ = count;
      return false;
    }
    position_ = 0;
    filled_ = static_cast<std::size_t>(count);
    return true;
  }

  End at_file_end() {
    if (!in_line_) return End::kFile;
    in_line_ = false;
    return End::kLine;
  }

  ByteSource source_;
  char buffer_[512];
  std::size_t position_ = 0;
  std::size_t filled_ = 0;
  std::size_t total_ = 0;
  long error_ = 0;
  bool ended_ = false;
  bool in_line_ = false;  // bytes have been read since the last newline
};

constexpr std::size_t kMaxName = 256;  // LOGIN_NAME_MAX

// What is looked for: a number or a name.
struct Wanted {
  std::string_view name;
  std::uint32_t id = 0;
  bool is_number = false;

  [[nodiscard]] bool matches(const Field& name_field, std::uint32_t id_of_line) const {
    return is_number ? id == id_of_line : name_field.is(name);
  }
};

long parse_wanted(std::string_view text, Wanted& wanted) {
  if (!is_plain_text(text)) return -EINVAL;
  wanted.name = text;
  const IdSyntax syntax = parse_id(text, wanted.id);
  if (syntax == IdSyntax::kOutOfRange) return -ERANGE;
  wanted.is_number = syntax == IdSyntax::kNumber;
  return 0;
}

bool read_id(Fields& fields, End& end, std::uint32_t& id) {
  char buffer[10];  // "4294967294"
  Field field(buffer, sizeof buffer);
  end = fields.next(&field);
  return !field.too_long() && parse_id(field.text(), id) == IdSyntax::kNumber;
}

// name:password:uid:gid:comment:home:shell, passwd(5).  Lines that do not have this form up to the gid are
// nobody: never uid 0 by default.  `name` is left empty unless a line matches.
long find_in_passwd(ByteSource source, const Wanted& wanted, ResolvedUser& user, Field& name) {
  Fields fields(source);
  Field home(user.home, kMaxHome - 1);
  while (true) {
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    End end = fields.next(&name);
    if (end == End::kFile || end == End::kError) break;
    bool good = end == End::kField && (end = fields.next(nullptr)) == End::kField;
    good = good && read_id(fields, end, uid) && end == End::kField && read_id(fields, end, gid);
    if (!good || !wanted.matches(name, uid)) {
      if (!fields.finish_line(end)) break;
      continue;
    }
    if (end == End::kField) end = fields.next(nullptr);
    home.clear();
    if (end == End::kField) fields.next(&home);
    if (fields.error() != 0) break;
    if (home.too_long() || !is_plain_text(home.text())) {
      user.problem = UserProblem::kHome;
      return home.too_long() ? -ENAMETOOLONG : -EINVAL;
    }
    if (home.text().empty()) home.add('/');
    user.home[home.text().size()] = '\0';
    user.uid = uid;
    user.gid = gid;
    return 0;
  }
  name.clear();
  return fields.error() != 0 ? fields.error() : -ENOENT;
}

// name:password:gid:member,member, group(5).
long find_in_group(ByteSource source, const Wanted& wanted, std::uint32_t& gid) {
  Fields fields(source);
  char buffer[kMaxName];
  Field name(buffer, sizeof buffer);
  while (true) {
    std::uint32_t id = 0;
    End end = fields.next(&name);
    if (end == End::kFile || end == End::kError) break;
    bool good = end == End::kField && (end = fields.next(nullptr)) == End::kField;
    good = good && read_id(fields, end, id);
    if (good && wanted.matches(name, id)) {
      gid = id;
      return 0;
    }
    if (!fields.finish_line(end)) break;
  }
  return fields.error() != 0 ? fields.error() : -ENOENT;
}

bool add_group(ResolvedUser& user, std::uint32_t gid) {
  if (user.group_count > 0 && user.groups[user.group_count - 1] == gid) return true;
  if (user.group_count == kMaxGroups) return false;
  user.groups[user.group_count++] = gid;
  return true;
}

// The groups that list `member`.
long find_memberships(ByteSource source, std::string_view member, ResolvedUser& user) {
  Fields fields(source);
  char buffer[kMaxName];
  Field item(buffer, sizeof buffer);
  while (true) {
    std::uint32_t gid = 0;
    End end = fields.next(nullptr);
    if (end == End::kFile || end == End::kError) break;
    bool good = end == End::kField && (end = fields.next(nullptr)) == End::kField;
    good = good && read_id(fields, end, gid) && end == End::kField;
    bool listed = false;
    if (good) {
      do {
        end = fields.next(&item, true);
        listed = listed || (end != End::kError && item.is(member));
      } while (end == End::kItem);
    }
    if (listed && !add_group(user, gid)) return -E2BIG;
    if (!fields.finish_line(end)) break;
  }
  return fields.error();
}

}  // namespace

ByteSource descriptor_source(const int& fd) {
  if (fd < 0) return {};
  auto read = [](void* context, char* buffer, std::size_t size) {
    return raw_syscall(SYS_read, *static_cast<const int*>(context), buffer, size);
  };
  return {read, const_cast<int*>(&fd)};
}

int open_account_file(int root, const char* path) {
  open_how how{};
  how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  const auto fd = static_cast<int>(raw_syscall(SYS_openat2, root, path, &how, sizeof how));
  if (fd < 0) return fd;
  struct stat status{};
  long answer = raw_syscall(SYS_fstat, fd, &status);
  if (answer == 0 && !S_ISREG(status.st_mode)) answer = -EINVAL;
  if (answer == 0) return fd;
  raw_syscall(SYS_close, fd);
  return static_cast<int>(answer);
}

IdSyntax parse_id(std::string_view text, std::uint32_t& id) {
  if (text.empty()) return IdSyntax::kNotNumber;
  std::uint64_t value = 0;
  bool too_large = false;
  for (char digit : text) {
    if (digit < '0' || digit > '9') return IdSyntax::kNotNumber;
    value = value * 10 + static_cast<std::uint64_t>(digit - '0');
    if (value > kLargestId) too_large = true, value = kLargestId;
  }
  if (too_large) return IdSyntax::kOutOfRange;
  id = static_cast<std::uint32_t>(value);
  return IdSyntax::kNumber;
}

bool is_plain_text(std::string_view text) {
  for (char byte : text)
    if (static_cast<unsigned char>(byte) < 0x20 || byte == 0x7f) return false;
  return true;
}

long resolve_user(std::string_view specification, ByteSource passwd, ByteSource group, ResolvedUser& user) {
  std::size_t colon = 0;
  while (colon < specification.size() && specification[colon] != ':') ++colon;
  const std::string_view user_text = {specification.data(), colon};
  const std::string_view group_text =
      colon == specification.size()
          ? std::string_view()
          : std::string_view(specification.data() + colon + 1, specification.size() - colon - 1);
  user.uid = 0;
  user.gid = 0;
  user.group_count = 0;
  user.problem = UserProblem::kUser;
  if (!is_plain_text(specification)) return -EINVAL;
  Wanted wanted;
  if (long error = parse_wanted(user_text, wanted); error != 0) return error;
  if (user_text.empty()) wanted.is_number = true;  // uid 0

  char name_buffer[kMaxName];
  Field name(name_buffer, sizeof name_buffer);
  long found = find_in_passwd(passwd, wanted, user, name);
  if (found == -ENOENT && wanted.is_number) {
    user.uid = wanted.id;
    user.home[0] = '/';
    user.home[1] = '\0';
  } else if (found != 0) {
    return found;
  }

  user.problem = UserProblem::kGroup;
  if (!group_text.empty()) {
    if (long error = resolve_group(group_text, group, user.gid); error != 0) return error;
    add_group(user, user.gid);
  } else {
    add_group(user, user.gid);
    if (found == 0 && !name.too_long() && !name.text().empty())
      if (long error = find_memberships(group, name.text(), user); error != 0) return error;
  }
  user.problem = UserProblem::kNone;
  return 0;
}

long resolve_group(std::string_view specification, ByteSource group, std::uint32_t& gid) {
  Wanted wanted;
  if (specification.empty()) return -EINVAL;
  if (long error = parse_wanted(specification, wanted); error != 0) return error;
  if (wanted.is_number) {
    gid = wanted.id;
    return 0;
  }
  return find_in_group(group, wanted, gid);
}

}  // namespace fastdock::launch
