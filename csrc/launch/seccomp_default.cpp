// fastdock's own default profile: the calls that programs in a container need, by what they are for.
//
// The rule for a call to be here: the kernel checks it against namespaces or capabilities that the container
// has anyway, and well-known programs need it.  What runs under Docker's default profile runs under this one
// (tests/kernel/test_seccomp.py); the differences are noted where they are.
#include <linux/capability.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <sys/socket.h>

#include <cerrno>
#include <initializer_list>
#include <ranges>
#include <string_view>

#include "launch/seccomp.h"

namespace fastdock::launch {
namespace {

// Names of system calls with a space between them.
using Names = std::string_view;

constexpr std::uint64_t kLow32 = 0xffffffff;

// linux/tty: the numbers have no header that can be included beside <sched.h>.
constexpr std::uint64_t kTiocsti = 0x5412;
constexpr std::uint64_t kTioclinux = 0x541c;

// Files by path and by descriptor: the kernel checks ownership, modes and the mount for each of them.
constexpr Names kFiles =
    "access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat "
    "faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat "
    "fcntl fcntl64 fdatasync flock fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 "
    "futimesat getcwd getdents getdents64 ioctl lchown lchown32 link linkat _llseek lseek lstat lstat64 "
    "mkdir mkdirat mknod mknodat newfstatat open openat openat2 pread64 preadv preadv2 pwrite64 pwritev "
    "pwritev2 read readahead readlink readlinkat readv rename renameat renameat2 rmdir sendfile sendfile64 "
    "splice stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range syncfs tee truncate "
    "truncate64 umask unlink unlinkat utime utimensat utimensat_time64 utimes vmsplice write writev";

// Extended attributes and inode flags (cp -a, tar --xattrs, setcap, chattr): trusted.* and security.* are
// checked by the kernel, and so are the flags.
constexpr Names kAttributes =
    "fgetxattr file_getattr file_setattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr "
    "listxattr listxattrat llistxattr lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat";

// Watching files, and naming them without opening them.  The counterpart open_by_handle_at reads any file of
// a file system, whatever the root directory is, and needs its capability; fanotify_init likewise.
constexpr Names kWatching =
    "fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch name_to_handle_at";

// Looking at one's own mounts: what /proc/self/mountinfo shows as well.
constexpr Names kMountTable = "listmount statmount";

// Memory of the process itself.
constexpr Names kMemory =
    "brk cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 "
    "mlockall mmap mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free "
    "pkey_mprotect remap_file_pages";

// Starting, ending and waiting for processes and threads.  clone and clone3 are below.
constexpr Names kProcesses =
    "execve execveat exit exit_group fork getcpu getpgid getpgrp getpid getppid getsid gettid kill pause "
    "pidfd_open pidfd_send_signal prctl process_mrelease restart_syscall rseq setpgid setsid "
    "set_tid_address tgkill tkill vfork wait4 waitid waitpid";

// Locks of user space.
constexpr Names kFutexes =
    "futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake get_robust_list set_robust_list";

// Signals.
constexpr Names kSignals =
    "rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait "
    "rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaction sigaltstack signal signalfd signalfd4 sigpending "
    "sigprocmask sigreturn sigsuspend";

// Who the process is: the kernel checks CAP_SETUID, CAP_SETGID and CAP_SETPCAP against the user namespace.
constexpr Names kCredentials =
    "capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid "
    "getresgid32 getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32 setgid "
    "setgid32 setgroups setgroups32 setregid setregid32 setresgid setresgid32 setresuid setresuid32 "
    "setreuid setreuid32 setuid setuid32";

// Restricting oneself further, and asking which security modules there are (as /proc/self/attr does).
constexpr Names kSandboxing =
    "landlock_add_rule landlock_create_ruleset landlock_restrict_self lsm_get_self_attr lsm_list_modules "
    "seccomp";

// Limits, priorities and scheduling: raising any of them needs a capability.
constexpr Names kScheduling =
    "getpriority getrlimit getrusage ioprio_get ioprio_set nice prlimit64 sched_getaffinity sched_getattr "
    "sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval "
    "sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler "
    "sched_yield setpriority setrlimit sysinfo times ugetrlimit uname";

// Clocks and timers.  adjtimex and clock_adjtime read; to set, they ask for CAP_SYS_TIME themselves.
constexpr Names kTime =
    "adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime "
    "clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time "
    "timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 "
    "timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64";

// Waiting for descriptors, and the old asynchronous I/O (databases); io_uring is refused below.
constexpr Names kWaiting =
    "epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 io_cancel "
    "io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit _newselect pipe pipe2 "
    "poll ppoll ppoll_time64 pselect6 pselect6_time64 select";

// Sockets, within the container's network namespace; families are looked at below.
constexpr Names kSockets =
    "accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg "
    "recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socket socketcall socketpair";

// System V and POSIX IPC, within the container's IPC namespace (postgres, Oracle, PHP).
constexpr Names kIpc =
    "ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend "
    "mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop "
    "semtimedop_time64 shmat shmctl shmdt shmget";

// Of the processor: thread-local storage, segments (Wine), random numbers; the two probes are made by the
// kernel's own trampolines in traced programs, which die when a filter stops them (Linux before 6.14:
// "seccomp: passthrough uretprobe systemcall").
constexpr Names kMachine = "arch_prctl getrandom get_thread_area modify_ldt set_thread_area uprobe uretprobe";

// Debugging processes of the container (gdb, strace, rr, JVM tools): since Linux 4.8 a tracer cannot evade
// the filter any more ("x86/ptrace: run seccomp after ptrace"), and fastdock needs a newer kernel anyway. All
// of them do the same check, ptrace_may_access(); Docker allows the first three and wants CAP_SYS_PTRACE for
// the others.
constexpr Names kTracing = "ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd process_madvise";

// Refused, whatever the capabilities: they act on the machine as a whole and have no place in a container
// (swap, kexec), or are attack surface out of proportion: keys are not in a namespace; io_uring (as in Docker
// since 25) and userfaultfd are the usual way to a kernel exploit.  The default action refuses them; they are
// named so that "newer than the profile" does not apply, and for the reader.
constexpr Names kRefused =
    "add_key io_uring_enter io_uring_register io_uring_setup kexec_file_load kexec_load keyctl "
    "migrate_pages move_pages pivot_root request_key swapoff swapon userfaultfd";

// Gone from Linux, or never were in it, or replaced long ago: programs that ask are looking for a fallback.
constexpr Names kObsolete =
    "_sysctl afs_syscall bdflush break create_module epoll_ctl_old epoll_wait_old ftime get_kernel_syms "
    "getpmsg gtty idle lock lookup_dcookie mpx nfsservctl oldfstat oldlstat oldolduname oldstat olduname "
    "prof profil putpmsg query_module security stty sysfs tuxcall ulimit uselib ustat vserver vm86 vm86old";

// Calls that are allowed to who has the capability that the kernel asks for.
struct Privileged {
  int capability;
  Names names;
};
constexpr Privileged kPrivileged[] = {
    {CAP_BPF, "bpf"},
    {CAP_DAC_READ_SEARCH, "open_by_handle_at"},
    {CAP_PERFMON, "perf_event_open"},
    {CAP_SYSLOG, "syslog"},
    {CAP_SYS_ADMIN,
     "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lsm_set_self_attr mount mount_setattr "
     "move_mount open_tree open_tree_attr perf_event_open quotactl quotactl_fd setdomainname sethostname "
     "setns syslog umount umount2 unshare"},
    {CAP_SYS_BOOT, "reboot"},
    {CAP_SYS_CHROOT, "chroot"},
    {CAP_SYS_MODULE, "delete_module finit_module init_module"},
    {CAP_SYS_NICE, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"},
    {CAP_SYS_PACCT, "acct"},
    {CAP_SYS_RAWIO, "ioperm iopl"},
    {CAP_SYS_TIME, "clock_settime clock_settime64 settimeofday stime"},
    {CAP_SYS_TTY_CONFIG, "vhangup"},
};

SeccompRule rule(SeccompAction action, Names names, std::optional<std::uint32_t> errno_value = {}) {
  SeccompRule rule{{}, action, errno_value, {}};
  for (auto name : std::views::split(names, ' ')) rule.names.emplace_back(std::string_view(name));
  return rule;
}

SeccompRule rule_if(SeccompAction action, const char* name, std::optional<std::uint32_t> errno_value,
                    std::uint32_t index, std::uint64_t mask, std::uint64_t datum) {
  return {{name}, action, errno_value, {{index, mask, datum, SeccompOperator::kMaskedEqual}}};
}

void add_processes_with_namespaces(SeccompProfile& profile) {
  // A new user namespace hands out all capabilities inside of it, and with them most of the kernel's
  // privileged code.  clone(2)'s flags can be looked at; clone3(2)'s are behind a pointer, so it does not
  // exist, and C libraries take clone instead (glibc 2.34, moby pull request 42681).  Not CLONE_NEWTIME: it
  // has the value of a bit of the exit signal, and clone takes it for that.
  constexpr std::uint64_t namespaces = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
                                       CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP;
  profile.rules.push_back(rule_if(SeccompAction::kAllow, "clone", {}, 0, namespaces, 0));
  profile.rules.push_back(rule(SeccompAction::kErrno, "clone3", ENOSYS));
}

void add_personalities(SeccompProfile& profile) {
  // unsigned int in the kernel: the low 32 bits count.  PER_LINUX, PER_LINUX32, the same with UNAME26
  // (old installers), ADDR_NO_RANDOMIZE (gdb, SBCL, rr; Docker refuses it, but it weakens the caller only),
  // and 0xffffffff, which asks.  Not READ_IMPLIES_EXEC and the foreign systems' personalities.
  for (std::uint64_t persona : {0x0, 0x8, 0x20000, 0x20008, 0x40000, 0x40008})
    profile.rules.push_back(rule_if(SeccompAction::kAllow, "personality", {}, 0, kLow32, persona));
  profile.rules.push_back(rule_if(SeccompAction::kAllow, "personality", {}, 0, kLow32, kLow32));
}

void add_exceptions(SeccompProfile& profile) {
  // Typing into the caller's terminal (CVE-2017-5226).  The kernel takes the request as unsigned int: with a
  // higher bit set, it is still the same one (CVE-2019-10063, CVE-2019-7303).
  for (std::uint64_t request : {kTiocsti, kTioclinux})
    profile.exceptions.push_back(rule_if(SeccompAction::kErrno, "ioctl", EPERM, 1, kLow32, request));
  // int in the kernel.  AF_VSOCK reaches the hypervisor, past every network namespace.  AF_ALG reaches the
  // kernel's crypto code (CVE-2026-31431; moby pull request 52494); programs that know it also know machines
  // without it.  (Docker compares all 64 bits, which 0x100000026 evades.)
  profile.exceptions.push_back(rule_if(SeccompAction::kErrno, "socket", EPERM, 0, kLow32, AF_VSOCK));
  profile.exceptions.push_back(rule_if(SeccompAction::kErrno, "socket", EAFNOSUPPORT, 0, kLow32, AF_ALG));
}

}  // namespace

SeccompProfile default_profile(CapabilitySet capabilities, bool with_i386) {
  SeccompProfile profile;
  profile.default_action = SeccompAction::kErrno;
  profile.default_errno = EPERM;
  profile.foreign_abi_errno = ENOSYS;  // what a kernel without x32 and 32-bit emulation answers
  if (with_i386) profile.architectures.push_back(SeccompArchitecture{SCMP_ARCH_X86});

  for (const Names& group :
       {kFiles, kAttributes, kWatching, kMountTable, kMemory, kProcesses, kFutexes, kSignals, kCredentials,
        kSandboxing, kScheduling, kTime, kWaiting, kSockets, kIpc, kMachine, kTracing})
    profile.rules.push_back(rule(SeccompAction::kAllow, group));
  for (const Privileged& each : kPrivileged) {
    const bool allowed = has_capability(capabilities, each.capability);
    profile.rules.push_back(rule(allowed ? SeccompAction::kAllow : SeccompAction::kErrno, each.names,
                                 allowed ? std::nullopt : std::optional<std::uint32_t>(EPERM)));
  }
  if (!has_capability(capabilities, CAP_SYS_ADMIN)) add_processes_with_namespaces(profile);
  profile.rules.push_back(rule(SeccompAction::kErrno, kRefused, EPERM));
  profile.rules.push_back(rule(SeccompAction::kErrno, kObsolete, ENOSYS));
  add_personalities(profile);
  add_exceptions(profile);
  return profile;
}

}  // namespace fastdock::launch
