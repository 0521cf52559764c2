// An image's /etc/passwd and /etc/group, and a `--user`, all hostile.  The first byte is the size of a read,
// then three texts that end with 0xff.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "launch/users.h"

namespace {

using namespace fastdock::launch;

struct Memory {
  std::string_view text;
  std::size_t piece;
};

long read_memory(void* context, char* buffer, std::size_t size) {
  auto& memory = *static_cast<Memory*>(context);
  const std::size_t count = std::min({size, memory.piece, memory.text.size()});
  if (count != 0) std::memcpy(buffer, memory.text.data(), count);
  memory.text.remove_prefix(count);
  return static_cast<long>(count);
}

std::string_view take(std::string_view& input) {
  const std::size_t end = std::min(input.find('\xff'), input.size());
  std::string_view text = input.substr(0, end);
  input.remove_prefix(std::min(end + 1, input.size()));
  return text;
}

void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  if (size == 0) return 0;
  std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string_view specification = take(input);
  const std::string_view passwd_text = take(input);
  const std::string_view group_text = input;
  Memory passwd{passwd_text, data[0] + 1U};
  Memory group{group_text, data[0] + 1U};
  static ResolvedUser user;
  const long error = resolve_user(specification, {read_memory, &passwd}, {read_memory, &group}, user);
  if (error != 0) {
    require(error < 0 && user.problem != UserProblem::kNone);
    return 0;
  }
  require(user.uid != 0xffffffff && user.gid != 0xffffffff);
  require(user.group_count >= 1 && user.group_count <= kMaxGroups && user.groups[0] == user.gid);
  for (std::size_t i = 0; i < user.group_count; ++i) require(user.groups[i] != 0xffffffff);
  const std::string_view home(user.home);
  require(!home.empty() && is_plain_text(home) && is_plain_text(specification));
  require(home == "/" || passwd_text.find(home) != std::string_view::npos);

  // The pieces in which a file arrives do not matter.
  static ResolvedUser again;
  Memory passwd_at_once{passwd_text, 4096};
  Memory group_at_once{group_text, 4096};
  require(resolve_user(specification, {read_memory, &passwd_at_once}, {read_memory, &group_at_once}, again) ==
          0);
  require(again.uid == user.uid && again.gid == user.gid && again.group_count == user.group_count);
  return 0;
}
