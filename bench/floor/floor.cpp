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
#include <thread>

#include "setup.h"
#include "syscalls.h"

#ifndef PIDFD_GET_MNT_NAMESPACE
#define PIDFD_GET_MNT_NAMESPACE _IO(0xFF, 3)
#endif
#include <sys/ioctl.h>

namespace floor_bench {
namespace {

constexpr std::size_t kStackSize = 64 * 1024;

void make_cgroups(Launch& launch) {
  const Shared& shared = *launch.shared;
  if (!shared.options.has("cgroup")) return;
  if (shared.controllers.empty()) {
    const std::string path = shared.cgroup_root + "/" + shared.options.cgroup + "/" + launch.id;
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
    const std::string path = shared.cgroup_root + "/" + name + "/" + shared.options.cgroup + "/" + launch.id;
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
  if (!launch.failed && (info.si_code != CLD_EXITED || info.si_status != 0))
    std::fprintf(stderr, "fastdock_floor: status %d\n", info.si_status);
  launch.at[kAnswer] = now_ns();
  for (const auto& path : launch.cgroups) must(path, sys(SYS_rmdir, path.c_str()));
  launch.at[kCgroupsGone] = now_ns();
  if (o.has("rm")) remove_directory(launch);
  launch.at[kFilesGone] = now_ns();
  close_all(launch, {pidfd, held});
  launch.at[kNamespaceClosed] = now_ns();
  if (launch.failed) {
    std::fprintf(stderr, "fastdock_floor: child: %s: %s\n", launch.failed,
                 std::strerror(static_cast<int>(launch.error)));
    std::exit(1);
  }
}

// What one thread needs to start containers again and again.
class Starter {
 public:
  Starter(const Shared& shared, int thread) : shared_(shared), thread_(thread) {
    void* stack =
        mmap(nullptr, kStackSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) must("stack", -errno);
    stack_ = static_cast<std::byte*>(stack);
    for (const auto& word : shared.options.argv) argv_.push_back(const_cast<char*>(word.c_str()));
    argv_.push_back(nullptr);
  }
  Starter(const Starter&) = delete;
  Starter& operator=(const Starter&) = delete;
  ~Starter() { munmap(stack_, kStackSize); }

  // One container from start to end: when each step ended, in nanoseconds since the start.
  std::vector<std::int64_t> start() {
    Launch launch;
    launch.shared = &shared_;
    launch.argv = argv_.data();
    launch.id = std::to_string(getpid()) + "-" + std::to_string(thread_) + "-" + std::to_string(count_++);
    launch.directory = shared_.options.state + "/" + launch.id;
    run_one(launch, stack_);
    std::vector<std::int64_t> steps(kSteps);
    for (int s = 0; s < kSteps; ++s)
      steps[static_cast<std::size_t>(s)] = launch.at[s] ? launch.at[s] - launch.at[kBegin] : -1;
    return steps;
  }

 private:
  const Shared& shared_;
  int thread_;
  int count_ = 0;
  std::byte* stack_;
  std::vector<char*> argv_;
};

void run_thread(const Shared& shared, int thread, std::vector<std::vector<std::int64_t>>& results) {
  Starter starter(shared, thread);
  for (int i = -shared.options.warmup; i < shared.options.iterations; ++i) {
    if (shared.options.spacing_ms > 0) usleep(static_cast<unsigned>(shared.options.spacing_ms) * 1000);
    auto steps = starter.start();
    if (i >= 0) results.push_back(std::move(steps));
  }
}

// One start for each line on stdin, its time in nanoseconds as the answer: for a measurement that takes
// turns.
void serve(const Shared& shared) {
  Starter starter(shared, 0);
  for (int c; (c = std::getchar()) != EOF;) {
    if (c != '\n') continue;
    const auto steps = starter.start();
    std::printf("%lld\n", static_cast<long long>(steps[kNamespaceClosed]));
    std::fflush(stdout);
  }
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

int run(const Options& options) {
  const Shared shared = set_up(options);
  if (options.serve == "yes") {
    serve(shared);
    tear_down(shared);
    return 0;
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
  tear_down(shared);
  return 0;
}

}  // namespace
}  // namespace floor_bench

int main(int argc, char** argv) { return floor_bench::run(floor_bench::parse_options(argc, argv)); }
