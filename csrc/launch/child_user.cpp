#include "launch/child_steps.h"

namespace fastdock::launch::steps {
namespace {

bool open_current_root(State& state) {
  if (state.root >= 0) return true;
  long root = raw_syscall(SYS_openat, AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
  if (!check(root, state.failure, Operation::kOpenRoot, "/")) return false;
  state.root = static_cast<int>(root);
  return true;
}

bool find_groups(State& state) {
  for (const char* name : state.plan.user.group_names) {
    Descriptor file(open_account_file(state.root, "etc/group"));
    int group_file = file.get();
    std::uint32_t gid = 0;
    long answer = resolve_group(name, descriptor_source(group_file), gid);
    if (!check(answer, state.failure, Operation::kFindGroup, name, Hint::kGroupUnknown)) return false;
    if (state.user.group_count == kMaxGroups) return fail(state.failure, -E2BIG, Operation::kFindGroup, name);
    state.user.groups[state.user.group_count++] = gid;
  }
  return true;
}

// A user given by number has the home that the image's /etc/passwd says; no line, or one that is no good:
// "/".
void find_home(State& state, std::uint32_t uid) {
  char digits[11];
  std::size_t at = sizeof digits;
  digits[--at] = '\0';
  do {
    digits[--at] = static_cast<char>('0' + uid % 10);
    uid /= 10;
  } while (uid != 0);
  Descriptor passwd(open_account_file(state.root, "etc/passwd"));
  int passwd_file = passwd.get();
  long answer = resolve_user(digits + at, descriptor_source(passwd_file), ByteSource{}, state.user);
  if (raw_failed(answer)) state.user.home[0] = '\0';
}

}  // namespace

// The image's account files are data, read by us below the root; see users.h.
bool find_user(State& state) {
  const ChildUser& wanted = state.plan.user;
  if (!open_current_root(state)) return false;
  if (wanted.name == nullptr) {
    if (state.plan.home_slot != nullptr) find_home(state, wanted.uid);
    state.user.group_count = 0;
    state.user.uid = wanted.uid;
    state.user.gid = wanted.gid;
    for (std::uint32_t group : wanted.groups) {
      if (state.user.group_count == kMaxGroups) return fail(state.failure, -E2BIG, Operation::kSetGroups, "");
      state.user.groups[state.user.group_count++] = group;
    }
    return find_groups(state);
  }
  Descriptor passwd(open_account_file(state.root, "etc/passwd"));
  Descriptor group(open_account_file(state.root, "etc/group"));
  int passwd_file = passwd.get();
  int group_file = group.get();
  long answer =
      resolve_user(wanted.name, descriptor_source(passwd_file), descriptor_source(group_file), state.user);
  if (raw_failed(answer)) {
    bool is_group = state.user.problem == UserProblem::kGroup;
    Hint hint = answer != -ENOENT ? Hint::kNone : is_group ? Hint::kGroupUnknown : Hint::kUserUnknown;
    return fail(state.failure, answer, is_group ? Operation::kFindGroup : Operation::kFindUser, wanted.name,
                hint);
  }
  return find_groups(state);
}

void fill_home(State& state, char* buffer, std::size_t size) {
  if (state.plan.home_slot == nullptr) return;
  const char* home = state.user.home[0] != '\0' ? state.user.home : "/";
  const char name[] = "HOME=";
  std::size_t at = 0;
  for (; name[at] != '\0'; ++at) buffer[at] = name[at];
  while (*home != '\0' && at + 1 < size) buffer[at++] = *home++;
  buffer[at] = '\0';
  *state.plan.home_slot = buffer;
}

}  // namespace fastdock::launch::steps
