// The child's half: what a container's init does between clone3 and execve.
#include <linux/capability.h>
#include <linux/futex.h>
#include <linux/keyctl.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <cstring>

#include "launch.h"
#include "syscalls.h"

namespace floor_bench {
namespace {

constexpr unsigned kQuiet = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

struct Child {
  Launch& launch;
  const Options& options = launch.shared->options;
  int root = -1;
  int plain_lower = -1;  // the layer as it is, when nothing maps its ids
  int empty = -1;        // a directory of the host's, empty and not writable for the container

  long must(const char* what, long result) {
    if (result >= 0) return result;
    launch.failed = what;
    launch.error = -result;
    sys(SYS_exit_group, 125);
    __builtin_unreachable();
  }
  void mark(Step step) { launch.at[step] = now_ns(); }
  void attach(int mount, const char* at) {
    must(at, sys(SYS_move_mount, mount, "", root, at, MOVE_MOUNT_F_EMPTY_PATH));
  }
  int clone_of(int directory, const char* path) {
    return static_cast<int>(
        must(path, sys(SYS_open_tree, directory, path,
                       OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (*path ? 0 : AT_EMPTY_PATH))));
  }

  void join_cgroups() {
    // A thread that moves itself through tasks needs no threadgroup lock (PERFORMANCE.md).
    for (const auto& file : launch.tasks) {
      const long fd = must("open tasks", sys(SYS_openat, AT_FDCWD, file.c_str(), O_WRONLY | O_CLOEXEC));
      must("write tasks", sys(SYS_write, fd, "0", 1));
      sys(SYS_close, fd);
    }
    if (options.has("cgroup") && options.has("cgroupns"))
      must("cgroup namespace", sys(SYS_unshare, CLONE_NEWCGROUP));
  }

  void raise_loopback() {
    const long fd = must("socket", sys(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq request{};
    std::memcpy(request.ifr_name, "lo", 3);
    request.ifr_flags = IFF_UP;
    must("loopback", sys(SYS_ioctl, fd, SIOCSIFFLAGS, &request));
    sys(SYS_close, fd);
  }

  void wait_for_parent() {
    if (options.sync == "socket") {
      char byte;
      must("read", sys(SYS_read, launch.socket[1], &byte, 1));
      return;
    }
    while (launch.gate.load() == 0) sys(SYS_futex, &launch.gate, FUTEX_WAIT, 0, nullptr, nullptr, 0);
  }

  void become_root() {
    if (!options.has("user")) return;
    must("setresgid", sys(SYS_setresgid, 0, 0, 0));
    must("setresuid", sys(SYS_setresuid, 0, 0, 0));
    must("setgroups", sys(SYS_setgroups, 0, nullptr));
  }

  void mount_root(int stage, int upper, int work) {
    must("private", sys(SYS_mount, nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr));
    if (!options.has("overlay")) {
      root = launch.lower >= 0 ? launch.lower : clone_of(plain_lower, "");
    } else if (options.overlay == "parent") {
      root = launch.overlay;
    } else {
      // A layer must be mounted in our own namespace; the descriptor then names the mount.
      if (launch.lower >= 0 && options.has("idmap"))
        must("move lower", sys(SYS_move_mount, launch.lower, "", stage, "",
                               MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH));
      const int lower = options.has("idmap") ? launch.lower : plain_lower;
      root = static_cast<int>(must("overlay", open_overlay(lower, upper, work, options.has("user"))));
    }
    must("move root",
         sys(SYS_move_mount, root, "", stage, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH));
  }

  int open_path(const char* path) {
    return static_cast<int>(must(path, sys(SYS_openat, AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC)));
  }

  void mount_type(const char* type, unsigned attributes, const char* const* settings, const char* at) {
    const int fd = static_cast<int>(must(type, open_file_system(type, attributes, settings)));
    attach(fd, at);
    sys(SYS_close, fd);
  }

  void mount_dev() {
    if (options.dev == "parent") {
      attach(launch.dev, "dev");
      return;
    }
    const char* const settings[] = {"mode", "755", "size", "65536k", nullptr};
    const int dev = static_cast<int>(must("dev", open_file_system("tmpfs", MOUNT_ATTR_NOSUID, settings)));
    attach(dev, "dev");
    for (const char* name : {"null", "zero", "full", "random", "urandom", "tty"}) {
      char path[32] = "/dev/";
      std::strcpy(path + 5, name);
      must("mknod", sys(SYS_mknodat, dev, name, S_IFREG | 0666, 0));
      const int node = clone_of(AT_FDCWD, path);
      must(name, sys(SYS_move_mount, node, "", dev, name, MOVE_MOUNT_F_EMPTY_PATH));
      sys(SYS_close, node);
    }
    const char* const links[][2] = {{"/proc/self/fd", "fd"},       {"/proc/self/fd/0", "stdin"},
                                    {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"},
                                    {"/proc/kcore", "core"},       {"pts/ptmx", "ptmx"}};
    for (auto& [target, name] : links) must(name, sys(SYS_symlinkat, target, dev, name));
    for (const char* name : {"pts", "shm", "mqueue"}) must(name, sys(SYS_mkdirat, dev, name, 0755));
    sys(SYS_close, dev);
  }

  void mount_ipc() {
    if (options.has("devpts")) {
      const char* const settings[] = {"newinstance", "",    "ptmxmode", "0666", "mode",
                                      "0620",        "gid", "5",        nullptr};
      mount_type("devpts", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, settings, "dev/pts");
    }
    if (options.has("mqueue")) mount_type("mqueue", kQuiet, nullptr, "dev/mqueue");
    if (options.has("shm")) {
      const char* const settings[] = {"mode", "1777", "size", "65536k", nullptr};
      mount_type("tmpfs", kQuiet, settings, "dev/shm");
    }
  }

  void bind_readonly(int from, const char* source, const char* at) {
    const int fd = clone_of(from, source);
    mount_attr attributes{};
    attributes.attr_set = MOUNT_ATTR_RDONLY;
    must(at, sys(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &attributes, sizeof attributes));
    attach(fd, at);
    sys(SYS_close, fd);
  }

  void mount_cgroup_view() {
    if (launch.shared->controllers.empty()) {
      mount_type("cgroup2", kQuiet | MOUNT_ATTR_RDONLY, nullptr, "sys/fs/cgroup");
      return;
    }
    if (options.view == "one") {
      bind_readonly(AT_FDCWD, launch.cgroups[0].c_str(), "sys/fs/cgroup");
      return;
    }
    const char* const settings[] = {"mode", "755", nullptr};
    const int view = static_cast<int>(must("view", open_file_system("tmpfs", kQuiet, settings)));
    attach(view, "sys/fs/cgroup");
    for (std::size_t i = 0; i < launch.cgroups.size(); ++i) {
      const char* name = launch.shared->controllers[i].c_str();
      char at[64] = "sys/fs/cgroup/";
      std::strncpy(at + 14, name, sizeof at - 15);
      must("mkdir view", sys(SYS_mkdirat, view, name, 0755));
      if (options.view == "mount") {
        const char* const controller[] = {name, "", nullptr};
        mount_type("cgroup", kQuiet | MOUNT_ATTR_RDONLY, controller, at);
      } else {
        bind_readonly(AT_FDCWD, launch.cgroups[i].c_str(), at);
      }
    }
    sys(SYS_close, view);
  }

  void mask_paths() {
    int shared = -1;
    for (const auto& hidden : launch.shared->masked) {
      if (!hidden.directory) {
        const int null = clone_of(AT_FDCWD, "/dev/null");
        attach(null, hidden.path.c_str());
        sys(SYS_close, null);
      } else if (options.mask == "host") {
        bind_readonly(empty, "", hidden.path.c_str());
      } else if (options.mask == "each" || shared < 0) {
        shared =
            static_cast<int>(must("mask", open_file_system("tmpfs", kQuiet | MOUNT_ATTR_RDONLY, nullptr)));
        attach(shared, hidden.path.c_str());
      } else {
        attach(clone_of(shared, ""), hidden.path.c_str());
      }
    }
  }

  void change_root(int stage) {
    // The stage descriptor names the directory below all that was stacked on it; enter through the root's
    // own.
    must("fchdir", sys(SYS_fchdir, root));
    if (options.root == "shallow") {
      must("move /", sys(SYS_mount, ".", "/", nullptr, MS_MOVE, nullptr));
      must("chroot", sys(SYS_chroot, "."));
    } else {
      must("pivot_root", sys(SYS_pivot_root, ".", "."));
      must("umount", sys(SYS_umount2, ".", 2 /* MNT_DETACH */));
    }
    must("chdir", sys(SYS_chdir, "/"));
    sys(SYS_close, stage);
  }

  void drop_capabilities() {
    // Docker's default fourteen.
    constexpr std::uint64_t kKept =
        1u << CAP_CHOWN | 1u << CAP_DAC_OVERRIDE | 1u << CAP_FSETID | 1u << CAP_FOWNER | 1u << CAP_MKNOD |
        1u << CAP_NET_RAW | 1u << CAP_SETGID | 1u << CAP_SETUID | 1u << CAP_SETFCAP | 1u << CAP_SETPCAP |
        1u << CAP_NET_BIND_SERVICE | 1u << CAP_SYS_CHROOT | 1u << CAP_KILL | 1u << CAP_AUDIT_WRITE;
    for (int capability = 0; capability <= CAP_LAST_CAP; ++capability) {
      if (!(kKept >> capability & 1))
        must("bounding set", sys(SYS_prctl, PR_CAPBSET_DROP, capability, 0, 0, 0));
    }
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2]{};
    data[0].effective = data[0].permitted = static_cast<std::uint32_t>(kKept);
    data[1].effective = data[1].permitted = static_cast<std::uint32_t>(kKept >> 32);
    must("capset", sys(SYS_capset, &header, data));
  }

  void load_filter() {
    const auto& program = launch.shared->filter;
    const sock_fprog filter{static_cast<unsigned short>(program.size()),
                            const_cast<sock_filter*>(program.data())};
    must("seccomp", sys(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter));
  }

  [[noreturn]] void run();
};

void Child::run() {
  mark(kChildStart);
  sys(SYS_prctl, PR_SET_PDEATHSIG, 9, 0, 0, 0);
  const bool own_upper = options.has("overlay") && options.overlay == "child";
  int upper = -1, work = -1;
  if (options.prepare == "before") join_cgroups();
  mark(kChildCgroup);
  if (options.namespaces == "unshare")
    must("unshare", sys(SYS_unshare, (options.has("net") ? CLONE_NEWNET : 0) | CLONE_NEWIPC | CLONE_NEWUTS));
  if (options.has("net")) raise_loopback();
  if (options.has("hostname")) must("hostname", sys(SYS_sethostname, "floor", 5));
  if (options.has("keyring")) must("keyring", sys(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, nullptr, 0, 0, 0));
  must("setsid", sys(SYS_setsid));
  mark(kChildNetwork);
  wait_for_parent();
  mark(kChildReleased);
  if (options.prepare == "during") join_cgroups();
  // With a shared descriptor table the parent could pass on what it made after the clone; now keep our own.
  must("unshare files", sys(SYS_unshare, CLONE_FILES));
  const int stage = open_path(launch.directory.c_str());  // before the ids change: 0700 and root's
  if (!options.has("idmap")) plain_lower = open_path(launch.shared->lower.c_str());
  if (options.mask == "host") empty = open_path(launch.shared->empty_directory.c_str());
  if (own_upper && options.upper == "own") {
    must("attach upper",
         sys(SYS_move_mount, launch.upper, "", stage, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH));
    upper = static_cast<int>(must("upper", sys(SYS_openat, launch.upper, "upper", O_PATH | O_CLOEXEC)));
    work = static_cast<int>(must("work", sys(SYS_openat, launch.upper, "work", O_PATH | O_CLOEXEC)));
  } else if (own_upper) {
    upper = static_cast<int>(must("upper", sys(SYS_openat, stage, "upper", O_PATH | O_CLOEXEC)));
    work = static_cast<int>(must("work", sys(SYS_openat, stage, "work", O_PATH | O_CLOEXEC)));
  }
  become_root();
  mark(kChildIds);
  mount_root(stage, upper, work);
  mark(kChildOverlay);
  if (options.has("proc")) mount_type("proc", kQuiet, nullptr, "proc");
  mark(kChildProc);
  if (options.has("dev")) mount_dev();
  mark(kChildDev);
  if (options.has("dev")) mount_ipc();
  mark(kChildIpc);
  if (options.has("sysfs")) mount_type("sysfs", kQuiet | MOUNT_ATTR_RDONLY, nullptr, "sys");
  mark(kChildSys);
  if (options.has("sysfs") && options.has("cgroup") && options.has("view")) mount_cgroup_view();
  mark(kChildView);
  if (options.has("masked")) mask_paths();
  mark(kChildMasked);
  if (options.has("readonly"))
    for (const auto& path : launch.shared->readonly) bind_readonly(root, path.c_str(), path.c_str());
  mark(kChildReadonly);
  if (options.has("pivot")) change_root(stage);
  mark(kChildPivot);
  if (options.has("seccomp")) load_filter();
  if (options.has("caps")) drop_capabilities();
  sys(SYS_close_range, 3, ~0U, 4 /* CLOSE_RANGE_CLOEXEC */);
  const std::uint64_t no_signals = 0;
  sys(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, &no_signals, nullptr, sizeof no_signals);
  sys(SYS_umask, 022);
  mark(kChildLocked);
  static char path[] = "PATH=/bin";
  char* environment[] = {path, nullptr};
  must(launch.argv[0], sys(SYS_execve, launch.argv[0], launch.argv, environment));
  __builtin_unreachable();
}

}  // namespace

int open_file_system(const char* type, unsigned attributes, const char* const* settings) {
  const long fs = sys(SYS_fsopen, type, FSOPEN_CLOEXEC);
  if (fs < 0) return static_cast<int>(fs);
  for (; settings && *settings; settings += 2) {
    const long set = *settings[1] ? sys(SYS_fsconfig, fs, FSCONFIG_SET_STRING, settings[0], settings[1], 0)
                                  : sys(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, settings[0], nullptr, 0);
    if (set < 0) return static_cast<int>(set);
  }
  const long created = sys(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0);
  const long mount = created < 0 ? created : sys(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attributes);
  sys(SYS_close, fs);
  return static_cast<int>(mount);
}

int open_overlay(int lower, int upper, int work, bool userxattr) {
  const long fs = sys(SYS_fsopen, "overlay", FSOPEN_CLOEXEC);
  if (fs < 0) return static_cast<int>(fs);
  if (userxattr) sys(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, "userxattr", nullptr, 0);
  long done = sys(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, "volatile", nullptr, 0);
  if (done >= 0) done = sys(SYS_fsconfig, fs, FSCONFIG_SET_FD, "lowerdir+", nullptr, lower);
  if (done >= 0) done = sys(SYS_fsconfig, fs, FSCONFIG_SET_FD, "upperdir", nullptr, upper);
  if (done >= 0) done = sys(SYS_fsconfig, fs, FSCONFIG_SET_FD, "workdir", nullptr, work);
  if (done >= 0) done = sys(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0);
  if (done >= 0) done = sys(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
  sys(SYS_close, fs);
  return static_cast<int>(done);
}

int make_dev(int uid) {
  char owner[16];
  char* digit = owner + sizeof owner - 1;
  *digit = 0;
  do *--digit = static_cast<char>('0' + uid % 10);
  while (uid /= 10);
  const char* const settings[] = {"mode", "755", "size", "65536k", "uid", digit, "gid", digit, nullptr};
  const int dev = open_file_system("tmpfs", MOUNT_ATTR_NOSUID, settings);
  if (dev < 0) return dev;
  const struct {
    const char* name;
    int major, minor;
  } nodes[] = {{"null", 1, 3},   {"zero", 1, 5},    {"full", 1, 7},
               {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};
  for (auto& node : nodes) sys(SYS_mknodat, dev, node.name, S_IFCHR | 0666, makedev(node.major, node.minor));
  const char* const links[][2] = {{"/proc/self/fd", "fd"},       {"/proc/self/fd/0", "stdin"},
                                  {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"},
                                  {"/proc/kcore", "core"},       {"pts/ptmx", "ptmx"}};
  for (auto& [target, name] : links) sys(SYS_symlinkat, target, dev, name);
  for (const char* name : {"pts", "shm", "mqueue"}) sys(SYS_mkdirat, dev, name, 0755);
  return dev;
}

void run_child(void* launch) { Child{*static_cast<Launch*>(launch)}.run(); }

}  // namespace floor_bench
