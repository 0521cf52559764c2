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

struct Holders {
  std::mutex mutex;
  bool kept = false;
  std::vector<Child> alive;
};

Holders& holders() {
  static auto* instance = new Holders;
  return *instance;
}

// True: it is taken, for end_holders().
bool keep_holder(Child& holder) {
  Holders& all = holders();
  std::scoped_lock lock(all.mutex);
  if (all.kept) all.alive.push_back(std::move(holder));
  return all.kept;
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
  if (described && keep_holder(holder)) return described;
  holder.kill_and_reap();
  return described;
}

struct Cache {
  std::mutex mutex;
  std::map<IdMaps, std::shared_ptr<Fd>> namespaces;
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
  if (auto found = kept.namespaces.find(maps); found != kept.namespaces.end()) return found->second;
  FASTDOCK_TRY(Fd made, make_user_namespace(maps));
  if (kept.namespaces.size() >= kMaximumKept) kept.namespaces.clear();
  return kept.namespaces[maps] = std::make_shared<Fd>(std::move(made));
}

void keep_holders() {
  std::scoped_lock lock(holders().mutex);
  holders().kept = true;
}

void end_holders() {
  std::scoped_lock lock(holders().mutex);
  for (Child& holder : holders().alive) holder.kill_and_reap();
  holders().alive.clear();
}

void release_kept_user_namespaces() {
  Cache& kept = cache();
  std::scoped_lock lock(kept.mutex);
  kept.namespaces.clear();
}

}  // namespace fastdock::rootfs
