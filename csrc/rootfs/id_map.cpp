#include "rootfs/id_map.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <mutex>

#include "base/clone.h"
#include "base/path.h"
#include "base/raw_syscall.h"

namespace fastdock::rootfs {
namespace {

constexpr std::size_t kMaximumKept = 256;

// Only its user namespace is wanted.  It must not outlive a parent that is killed meanwhile, nor hold a copy
// of the parent's descriptors (the lock of its session among them), so it gives both up first.
[[noreturn]] void wait_to_be_killed(void* argument) {
  raw_syscall(SYS_close_range, 0, ~0U, 0);
  raw_syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
  if (raw_syscall(SYS_getppid) != *static_cast<const pid_t*>(argument)) raw_syscall(SYS_exit_group, 0);
  while (true) raw_syscall(SYS_pause);
}

Result<Fd> make_user_namespace(const IdMaps& maps) {
  pid_t own_pid = ::getpid();
  FASTDOCK_TRY(auto holder, clone_sharing_memory(CLONE_NEWUSER, wait_to_be_killed, &own_pid));
  std::string proc = "/proc/" + std::to_string(holder.pid) + "/";
  auto described = [&]() -> Result<Fd> {
    if (auto written = write_file(proc + "uid_map", map_text(maps.uids)); !written)
      return failed_with(written.error().number, Operation::kWriteUidMap, "", Hint::kUserNamespaceForbidden);
    if (auto written = write_file(proc + "gid_map", map_text(maps.gids)); !written)
      return failed_with(written.error().number, Operation::kWriteGidMap, "", Hint::kUserNamespaceForbidden);
    return open_file(proc + "ns/user", O_RDONLY);
  }();
  holder.kill_and_reap();
  return described;
}

struct Cache {
  std::mutex mutex;
  std::map<IdMaps, std::shared_ptr<Fd>> namespaces;  // no descriptor: asked for once

  Result<std::shared_ptr<Fd>> make(const IdMaps& maps) {
    FASTDOCK_TRY(Fd made, make_user_namespace(maps));
    return keep(maps, std::make_shared<Fd>(std::move(made)));
  }
  std::shared_ptr<Fd> keep(const IdMaps& maps, std::shared_ptr<Fd> made) {
    if (namespaces.size() >= kMaximumKept) namespaces.clear();
    return namespaces[maps] = std::move(made);
  }
};

Cache& cache() {
  static auto* instance = new Cache;
  return *instance;
}

}  // namespace

std::string map_text(const std::vector<IdMapping>& mappings) {
  std::string text;
  for (const IdMapping& mapping : mappings)
    text += std::to_string(mapping.inside) + ' ' + std::to_string(mapping.outside) + ' ' +
            std::to_string(mapping.count) + '\n';
  return text;
}

Result<std::shared_ptr<Fd>> user_namespace(const IdMaps& maps) {
  Cache& kept = cache();
  std::scoped_lock lock(kept.mutex);
  auto found = kept.namespaces.find(maps);
  return found != kept.namespaces.end() && found->second ? found->second : kept.make(maps);
}

Result<std::shared_ptr<Fd>> user_namespace_if_again(const IdMaps& maps) {
  Cache& kept = cache();
  std::scoped_lock lock(kept.mutex);
  auto found = kept.namespaces.find(maps);
  if (found == kept.namespaces.end()) return kept.keep(maps, nullptr);
  return found->second ? found->second : kept.make(maps);
}

void release_kept_user_namespaces() {
  Cache& kept = cache();
  std::scoped_lock lock(kept.mutex);
  kept.namespaces.clear();
}

}  // namespace fastdock::rootfs
