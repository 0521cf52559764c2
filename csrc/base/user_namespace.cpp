#include "base/user_namespace.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/path.h"

namespace fastdock {

bool in_initial_user_namespace() {
  constexpr ino_t kInitial = 0xEFFFFFFD;  // PROC_USER_INIT_INO, include/linux/proc_ns.h
  struct stat status{};
  return ::stat("/proc/self/ns/user", &status) != 0 || status.st_ino == kInitial;
}

bool may_set_groups() {
  if (in_initial_user_namespace()) return ::geteuid() == 0;
  return !read_file("/proc/self/setgroups").value_or("allow").starts_with("deny");
}

}  // namespace fastdock
