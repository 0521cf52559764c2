// The floor: starts containers with the system calls that isolation needs and nothing around them.
// What an engine adds is its distance from this program, measured beside it (docs/benchmarks.md).
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <thread>

#include "launch.h"
#include "syscalls.h"

#ifndef PIDFD_GET_MNT_NAMESPACE
#define PIDFD_GET_MNT_NAMESPACE _IO(0xFF, 3)
#endif
#include <sys/ioctl.h>

namespace floor_bench {
namespace {

constexpr std::size_t kStackSize = 64 * 1024;

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
    mkdir("/sys/fs/cgroup/fastdock-floor", 0755);
    write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory +pids +cpu");
    write_file("/sys/fs/cgroup/fastdock-floor/cgroup.subtree_control", "+memory +pids +cpu");
    return;
  }
  for (const char* name : {"memory", "pids", "cpu", "cpuacct", "freezer"}) {
    shared.controllers.emplace_back(name);
    mkdir((shared.cgroup_root + "/" + name + "/fastdock-floor").c_str(), 0755);
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

void make_cgroups(Launch& launch) {
  const Shared& shared = *launch.shared;
  if (!shared.options.has("cgroup")) return;
  if (shared.controllers.empty()) {
    const std::string path = shared.cgroup_root + "/fastdock-floor/" + launch.id;
    launch.cgroups = {path};
    must(path, sys(SYS_mkdir, path.c_str(), 0755));
    if (shared.options.has("limits")) {
      write_file(path + "/memory.max", "268435456");
      write_file(path + "/pids.max", "100");
      write_file(path + "/cpu.max", "100000 100000");
    }
    launch.cgroup2 = static_cast<int>(
        must(path, sys(SYS_openat, AT_FDCWD, path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)));
    return;
  }
  for (const auto& name : shared.controllers) {
    const std::string path = shared.cgroup_root + "/" + name + "/fastdock-floor/" + launch.id;
    must(path, sys(SYS_mkdir, path.c_str(), 0755));
    launch.cgroups.push_back(path);
    launch.tasks.push_back(path + "/tasks");
    if (!shared.options.has("limits")) continue;
    if (name == "memory") write_file(path + "/memory.limit_in_bytes", "268435456");
    if (name == "pids") write_file(path + "/pids.max", "100");
    if (name == "cpu")
      write_file(path + "/cpu.cfs_quota_us", "100000"), write_file(path + "/cpu.shares", "1024");
  }
}

int owner(const Shared& shared) { return shared.options.has("user") ? kIdBase : 0; }

void make_directory(Launch& launch) {
  const Options& options = launch.shared->options;
  must(launch.directory, sys(SYS_mkdir, launch.directory.c_str(), 0700));
  int at = -1;
  if (options.upper == "own") {
    const char* const settings[] = {"mode", "755", nullptr};
    at = static_cast<int>(must("tmpfs", open_file_system("tmpfs", 0, settings)));
    launch.upper = at;
  } else {
    at = static_cast<int>(
        must("open", sys(SYS_openat, AT_FDCWD, launch.directory.c_str(), O_PATH | O_CLOEXEC)));
  }
  for (const char* name : {"upper", "work"}) {
    must(name, sys(SYS_mkdirat, at, name, 0755));
    must(name, sys(SYS_fchownat, at, name, owner(*launch.shared), owner(*launch.shared), 0));
  }
  if (options.upper != "own") sys(SYS_close, at);
}

void remove_directory(const Launch& launch) {
  if (launch.shared->options.upper != "own" && launch.shared->options.has("overlay")) {
    // What an overlay that nothing was written to leaves: upper, work/work/incompat/volatile/dirty.
    const std::string& d = launch.directory;
    sys(SYS_unlink, (d + "/work/work/incompat/volatile/dirty").c_str());
    for (const char* name :
         {"/work/work/incompat/volatile", "/work/work/incompat", "/work/work", "/work", "/upper"})
      sys(SYS_rmdir, (d + name).c_str());
    if (access((d + "/upper").c_str(), F_OK) == 0 || access((d + "/work").c_str(), F_OK) == 0)
      (void)!std::system(("rm -rf " + d + "/upper " + d + "/work").c_str());
  } else if (launch.shared->options.upper != "own") {
    sys(SYS_rmdir, (launch.directory + "/upper").c_str());
    sys(SYS_rmdir, (launch.directory + "/work").c_str());
  }
  must(launch.directory, sys(SYS_rmdir, launch.directory.c_str()));
}

void make_parent_overlay(Launch& launch, int lower) {
  const std::string& d = launch.directory;
  const int upper =
      static_cast<int>(must("upper", sys(SYS_openat, AT_FDCWD, (d + "/upper").c_str(), O_PATH | O_CLOEXEC)));
  const int work =
      static_cast<int>(must("work", sys(SYS_openat, AT_FDCWD, (d + "/work").c_str(), O_PATH | O_CLOEXEC)));
  launch.overlay = static_cast<int>(must("overlay", open_overlay(lower, upper, work, false)));
  sys(SYS_close, upper), sys(SYS_close, work);
}

int layer_for(const Launch& launch, int user_namespace) {
  const Shared& shared = *launch.shared;
  if (!shared.options.has("idmap")) return -1;
  if (shared.options.lower == "cached")
    return static_cast<int>(must("clone lower", sys(SYS_open_tree, shared.cached_lower, "",
                                                    OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH)));
  return map_lower(shared, user_namespace);
}

// All that needs neither the child nor its ids.
void prepare(Launch& launch) {
  make_directory(launch);
  make_cgroups(launch);
  if (launch.shared->options.dev == "parent" && launch.shared->options.has("dev"))
    launch.dev = static_cast<int>(must("dev", make_dev(owner(*launch.shared))));
}

void release(Launch& launch) {
  if (launch.shared->options.sync == "socket") {
    must("release", sys(SYS_write, launch.socket[0], "x", 1));
    return;
  }
  launch.gate.store(1);
  sys(SYS_futex, &launch.gate, FUTEX_WAKE, 1, nullptr, nullptr, 0);
}

std::uint64_t namespace_flags(const Options& o) {
  std::uint64_t flags = CLONE_NEWPID | CLONE_NEWNS;
  if (o.has("user")) flags |= CLONE_NEWUSER;
  if (o.namespaces == "clone") {
    flags |= CLONE_NEWIPC | CLONE_NEWUTS;
    if (o.has("net")) flags |= CLONE_NEWNET;
  }
  return flags;
}

void close_all(Launch& launch, std::initializer_list<int> more) {
  for (int fd : {launch.lower, launch.overlay, launch.dev, launch.upper, launch.socket[0], launch.socket[1],
                 launch.cgroup2})
    if (fd >= 0) sys(SYS_close, fd);
  for (int fd : more)
    if (fd >= 0) sys(SYS_close, fd);
}

void use_cached_lower(Launch& launch) {
  if (!launch.shared->options.has("idmap")) return;
  launch.lower = layer_for(launch, launch.shared->user_namespace);
  if (launch.shared->options.overlay == "parent") make_parent_overlay(launch, launch.lower);
}

// The user namespace is there once the child is; what hangs on it is made now, while the child works.
void finish_mounts(Launch& launch, long pid) {
  const Options& o = launch.shared->options;
  if (o.has("user")) write_maps(pid);
  launch.at[kMapped] = now_ns();
  if (o.prepare == "during") prepare(launch);
  if (o.prepare == "during" && o.lower == "cached") use_cached_lower(launch);
  if (o.lower != "fresh" || !o.has("user") || !o.has("idmap")) return;
  const int ns = open_user_namespace(pid);
  launch.lower = layer_for(launch, ns);
  sys(SYS_close, ns);
  if (o.overlay == "parent") make_parent_overlay(launch, launch.lower);
}

void run_one(Launch& launch, std::byte* stack) {
  const Options& o = launch.shared->options;
  launch.at[kBegin] = now_ns();
  if (o.prepare == "before") prepare(launch);
  if (o.lower == "cached" && o.prepare == "before") use_cached_lower(launch);
  if (o.sync == "socket")
    must("socketpair", sys(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, launch.socket));
  launch.at[kPrepared] = now_ns();

  int pidfd = -1;
  clone_args args{};
  args.flags = namespace_flags(o) | CLONE_VM | CLONE_FILES | CLONE_PIDFD | CLONE_CHILD_CLEARTID;
  if (launch.cgroup2 >= 0)
    args.flags |= CLONE_INTO_CGROUP | CLONE_NEWCGROUP,
        args.cgroup = static_cast<std::uint64_t>(launch.cgroup2);
  args.pidfd = reinterpret_cast<std::uint64_t>(&pidfd);
  args.child_tid = reinterpret_cast<std::uint64_t>(&launch.unexeced);
  args.exit_signal = SIGCHLD;
  args.stack = reinterpret_cast<std::uint64_t>(stack);
  args.stack_size = kStackSize;
  std::uint64_t all = ~0ULL, before = 0;
  sys(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof all);
  const long pid = must("clone3", clone_onto(&args, run_child, &launch));
  sys(SYS_rt_sigprocmask, SIG_SETMASK, &before, nullptr, sizeof before);
  launch.at[kCloned] = now_ns();
  finish_mounts(launch, pid);
  release(launch);
  launch.at[kReleased] = now_ns();
  while (launch.unexeced.load() != 0) sys(SYS_futex, &launch.unexeced, FUTEX_WAIT, 1, nullptr, nullptr, 0);
  launch.at[kExec] = now_ns();
  int held = -1;
  if (o.hold == "mnt") held = static_cast<int>(sys(SYS_ioctl, pidfd, PIDFD_GET_MNT_NAMESPACE, 0));
  siginfo_t info{};
  if (o.wait == "sigchld")
    must("waitid", sys(SYS_waitid, P_PID, pid, &info, WEXITED, nullptr));
  else
    must("waitid", sys(SYS_waitid, 3 /* P_PIDFD */, pidfd, &info, WEXITED, nullptr));
  launch.at[kExited] = now_ns();
  if (launch.failed) {
    std::fprintf(stderr, "fastdock_floor: child: %s: %s\n", launch.failed,
                 std::strerror(static_cast<int>(launch.error)));
    std::exit(1);
  }
  if (info.si_code != CLD_EXITED || info.si_status != 0)
    std::fprintf(stderr, "fastdock_floor: status %d\n", info.si_status);
  launch.at[kAnswer] = now_ns();
  for (const auto& path : launch.cgroups) must(path, sys(SYS_rmdir, path.c_str()));
  launch.at[kCgroupsGone] = now_ns();
  if (o.has("rm")) remove_directory(launch);
  launch.at[kFilesGone] = now_ns();
  close_all(launch, {pidfd, held});
  launch.at[kNamespaceClosed] = now_ns();
}

void run_thread(const Shared& shared, int thread, std::vector<std::vector<std::int64_t>>& results) {
  auto* stack = static_cast<std::byte*>(
      mmap(nullptr, kStackSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0));
  std::vector<char*> argv;
  for (const auto& word : shared.options.argv) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  for (int i = -shared.options.warmup; i < shared.options.iterations; ++i) {
    Launch launch;
    launch.shared = &shared;
    launch.argv = argv.data();
    launch.id = std::to_string(getpid()) + "-" + std::to_string(thread) + "-" +
                std::to_string(i + shared.options.warmup);
    launch.directory = shared.options.state + "/" + launch.id;
    if (shared.options.spacing_ms > 0) usleep(static_cast<unsigned>(shared.options.spacing_ms) * 1000);
    run_one(launch, stack);
    if (i < 0) continue;
    std::vector<std::int64_t> steps(kSteps);
    for (int s = 0; s < kSteps; ++s)
      steps[static_cast<std::size_t>(s)] = launch.at[s] ? launch.at[s] - launch.at[kBegin] : -1;
    results.push_back(steps);
  }
  munmap(stack, kStackSize);
}

void print(const std::vector<std::vector<std::int64_t>>& rows, std::int64_t wall_ns) {
  std::printf("{\"wall_ns\": %lld, \"steps_ns\": {", static_cast<long long>(wall_ns));
  for (int step = 0; step < kSteps; ++step) {
    std::printf("%s\"%s\": [", step ? ", " : "", kStepNames[step]);
    for (std::size_t i = 0; i < rows.size(); ++i)
      std::printf("%s%lld", i ? ", " : "", static_cast<long long>(rows[i][static_cast<std::size_t>(step)]));
    std::printf("]");
  }
  std::printf("}}\n");
}

// What cannot be there without another group: sysfs needs a network namespace of the user namespace's own.
void drop_dependents(Options& options) {
  if (!options.has("user")) options.without.insert("idmap");
  if (!options.has("net") && options.has("user")) options.without.insert("sysfs");
  if (!options.has("proc")) options.without.insert({"masked", "readonly"});
}

int run(const Options& options) {
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
  std::vector<std::vector<std::vector<std::int64_t>>> results(static_cast<std::size_t>(options.threads));
  const std::int64_t begin = now_ns();
  std::vector<std::thread> threads;
  for (int t = 0; t < options.threads; ++t)
    threads.emplace_back([&, t] { run_thread(shared, t, results[static_cast<std::size_t>(t)]); });
  for (auto& thread : threads) thread.join();
  const std::int64_t wall = now_ns() - begin;
  std::vector<std::vector<std::int64_t>> rows;
  for (auto& part : results) rows.insert(rows.end(), part.begin(), part.end());
  print(rows, wall);
  rmdir(shared.empty_directory.c_str());
  for (const auto& name : shared.controllers)
    rmdir((shared.cgroup_root + "/" + name + "/fastdock-floor").c_str());
  return 0;
}

}  // namespace
}  // namespace floor_bench

int main(int argc, char** argv) { return floor_bench::run(floor_bench::parse_options(argc, argv)); }
