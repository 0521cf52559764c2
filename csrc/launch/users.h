// Who `--user` means, by the image's /etc/passwd and /etc/group.
//
// These files come from the image: they are data, and never reach the host's NSS.  The code runs in the
// child between clone and execve as well as in ordinary functions, so it takes nothing from the C library:
// no allocation, no stdio, no locale; it reads each file once, a buffer at a time, and keeps one field.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace fastdock::launch {

// Where bytes come from.  `read` answers as read(2) does, but -errno on failure; 0 is the end.
struct ByteSource {
  long (*read)(void* context, char* buffer, std::size_t size) = nullptr;  // null: an empty file
  void* context = nullptr;
};

// The file behind a descriptor; a negative one is an empty file, as for an image without /etc/passwd.
// `fd` must outlive the source.
ByteSource descriptor_source(const int& fd);

// Opens `path` ("etc/passwd") below the directory `root` for reading.  Links stay below the root
// (openat2(2), RESOLVE_IN_ROOT), and only a regular file will do: a FIFO or a device in the image must not
// hold us up.  Returns -errno; -ENOENT is an image that has no such file.
int open_account_file(int root, const char* path);

constexpr std::size_t kMaxHome = 4096;    // PATH_MAX, with the NUL
constexpr std::size_t kMaxGroups = 1024;  // more would be somebody's attempt to waste our memory
// Account files are read up to this size; a larger one is refused (EFBIG).
constexpr std::size_t kMaxAccountFile = std::size_t{16} << 20;

enum class UserProblem : std::uint8_t { kNone, kUser, kGroup, kHome };

struct ResolvedUser {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  // The supplementary groups, with gid first: who drops a group by setgid must not get around a file's
  // group bits (CVE-2022-36109).
  std::uint32_t groups[kMaxGroups];
  std::size_t group_count = 0;
  char home[kMaxHome];                       // ends with NUL; "/" if the user has none
  UserProblem problem = UserProblem::kNone;  // what an error is about
};

// Docker's meaning of `--user` ("", "name", "uid", "name:group", "uid:gid", "uid:group", …):
//  - digits only is a number, 0..4294967294; a number need not be in the file, and then has gid 0 and "/".
//  - "" is uid 0.
//  - the first matching line counts; its uid, gid and home.
//  - without a group, the supplementary groups are those that list the user's name; with one, none.
// Returns 0 or -errno: ENOENT (no such name), ERANGE (a number that is no id), EINVAL (control characters
// in `specification` or in the home directory), ENAMETOOLONG, E2BIG (too many groups), EFBIG, or the read's.
long resolve_user(std::string_view specification, ByteSource passwd, ByteSource group, ResolvedUser& user);

// The id of a group by name or number (`--group-add`); a number is not looked up.  Returns as above.
long resolve_group(std::string_view specification, ByteSource group, std::uint32_t& gid);

// A decimal id without sign, spaces or anything else, in 0..4294967294 (4294967295 is -1 to the kernel:
// "leave unchanged").  CVE-2024-40635: a number that wraps around must not become 0.
enum class IdSyntax : std::uint8_t { kNumber, kNotNumber, kOutOfRange };
IdSyntax parse_id(std::string_view text, std::uint32_t& id);

// Whether the text has no control characters: one line of a file or of an environment, and nothing that a
// terminal obeys (CVE-2022-4318: a newline in HOME became a line of /etc/passwd).
bool is_plain_text(std::string_view text);

}  // namespace fastdock::launch
