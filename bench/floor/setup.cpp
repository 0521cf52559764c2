// What a floor program prepares once: where things are on this machine, and what launches share.
#include "setup.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "syscalls.h"

namespace floor_bench {

long must(const std::string& what, long result) {
  if (result >= 0) return result;
  std::fprintf(stderr, "fastdock_floor: %s: %s\n", what.c_str(), std::strerror(static_cast<int>(-result)));
  std::exit(1);
}

void write_file(const std::string& path, const std::string& text) {
  const int fd = static_cast<int>(must(path, sys(SYS_openat, AT_FDCWD, path.c_str(), O_WRONLY | O_CLOEXEC)));
  must(path, sys(SYS_write, fd, text.data(), text.size()));
  sys(SYS_close, fd);
}

void write_maps(long pid) {
  const std::string proc = "/proc/" + std::to_string(pid),
                    map = "0 " + std::to_string(kIdBase) + " " + std::to_string(kIdCount);
  write_file(proc + "/uid_map", map);
  write_file(proc + "/gid_map", map);
}

int map_lower(const Shared& shared, int user_namespace) {
  const int lower =
      static_cast<int>(must("open_tree lower", sys(SYS_open_tree, AT_FDCWD, shared.lower.c_str(),
                                                   OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)));
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_IDMAP;
  attributes.userns_fd = static_cast<std::uint64_t>(user_namespace);
  must("id-map", sys(SYS_mount_setattr, lower, "", AT_EMPTY_PATH, &attributes, sizeof attributes));
  return lower;
}

int open_user_namespace(long pid) {
  return static_cast<int>(
      must("ns/user", sys(SYS_openat, AT_FDCWD, ("/proc/" + std::to_string(pid) + "/ns/user").c_str(),
                          O_RDONLY | O_CLOEXEC)));
}

namespace {

// A user namespace with the container's ids that stays: made by a child that is gone at once.
int keep_user_namespace() {
  int ready[2];
  must("pipe", pipe(ready));
  const pid_t pid = fork();
  if (pid == 0) {
    unshare(CLONE_NEWUSER);
    (void)!write(ready[1], "x", 1);
    pause();
  }
  char byte;
  (void)!read(ready[0], &byte, 1);
  write_maps(pid);
  const int fd = open_user_namespace(pid);
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
  close(ready[0]), close(ready[1]);
  return fd;
}

void find_paths(Shared& shared) {
  for (const char* path : {"proc/acpi", "proc/asound", "proc/interrupts", "proc/kcore", "proc/keys",
                           "proc/latency_stats", "proc/sched_debug", "proc/scsi", "proc/timer_list",
                           "proc/timer_stats", "sys/devices/virtual/powercap", "sys/firmware"}) {
    struct stat status;
    if (path[0] == 's' && !shared.options.has("sysfs")) continue;
    if (stat((std::string("/") + path).c_str(), &status) == 0)
      shared.masked.push_back({path, S_ISDIR(status.st_mode)});
  }
  for (const char* path : {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"})
    if (access((std::string("/") + path).c_str(), F_OK) == 0) shared.readonly.emplace_back(path);
}

void find_cgroups(Shared& shared) {
  shared.cgroup_root = "/sys/fs/cgroup";
  if (access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0) {
    const std::string parent = shared.cgroup_root + "/" + shared.options.cgroup;
    mkdir(parent.c_str(), 0755);
    write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory +pids +cpu");
    write_file(parent + "/cgroup.subtree_control", "+memory +pids +cpu");
    return;
  }
  for (const char* name : {"memory", "pids", "cpu", "cpuacct", "freezer"}) {
    shared.controllers.emplace_back(name);
    mkdir((shared.cgroup_root + "/" + name + "/" + shared.options.cgroup).c_str(), 0755);
  }
}

void load_program(Shared& shared) {
  shared.filter = {{0x06 /* BPF_RET */, 0, 0, 0x7fff0000 /* SECCOMP_RET_ALLOW */}};
  if (shared.options.seccomp.empty()) return;
  std::ifstream file(shared.options.seccomp, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  if (bytes.empty() || bytes.size() % sizeof(sock_filter)) must(shared.options.seccomp, -EINVAL);
  shared.filter.resize(bytes.size() / sizeof(sock_filter));
  std::memcpy(shared.filter.data(), bytes.data(), bytes.size());
}

// What cannot be there without another group: sysfs needs a network namespace of the user namespace's own.
void drop_dependents(Options& options) {
  if (!options.has("user")) options.without.insert("idmap");
  if (!options.has("net") && options.has("user")) options.without.insert("sysfs");
  if (!options.has("proc")) options.without.insert({"masked", "readonly"});
}

}  // namespace

Shared set_up(const Options& options) {
  Shared shared;
  shared.options = options;
  shared.lower = options.rootfs;
  umask(0);
  drop_dependents(shared.options);
  find_paths(shared);
  load_program(shared);
  if (options.has("cgroup")) find_cgroups(shared);
  mkdir(options.state.c_str(), 0700);
  shared.empty_directory = options.state + "/empty";
  mkdir(shared.empty_directory.c_str(), 0555);
  if (options.has("user") && options.lower == "cached") {
    shared.user_namespace = keep_user_namespace();
    shared.cached_lower = map_lower(shared, shared.user_namespace);
  }
  return shared;
}

void tear_down(const Shared& shared) {
  rmdir(shared.empty_directory.c_str());
  if (!shared.options.has("cgroup")) return;
  if (shared.controllers.empty()) rmdir((shared.cgroup_root + "/" + shared.options.cgroup).c_str());
  for (const auto& name : shared.controllers)
    rmdir((shared.cgroup_root + "/" + name + "/" + shared.options.cgroup).c_str());
}

}  // namespace floor_bench
