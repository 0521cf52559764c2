#include "net/daemon.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/path.h"

namespace fastdock::net {
namespace {

constexpr uid_t kNobody = 65534;

// False where an ordinary user has no ids but its own.
bool has_nobody() {
  std::string map = read_file("/proc/self/uid_map").value_or("");
  unsigned inside = 0;
  unsigned outside = 0;
  unsigned count = 0;
  return std::sscanf(map.c_str(), "%u %u %u", &inside, &outside, &count) != 3 || count > 1 ||
         map.find('\n') + 1 < map.size();
}

}  // namespace

Result<Fd> lock_daemon(const std::string& socket_path) {
  FASTDOCK_TRY(auto lock, open_file(socket_path + ".lock", O_RDWR | O_CREAT, 0600));
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) == 0) return lock;
  if (errno == EWOULDBLOCK) return Fd();
  return failed(Operation::kLockFile, socket_path + ".lock");
}

Result<Fd> listen_on(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return failed_with(ENAMETOOLONG, Operation::kOpenResolver, path);
  std::memcpy(address.sun_path, path.data(), path.size());
  Fd opened(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!opened) return failed(Operation::kOpenResolver, path);
  ::unlink(path.c_str());  // of one that was killed; nobody else is here, we hold the lock
  if (::bind(opened.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::chmod(path.c_str(), 0600) != 0 || ::listen(opened.get(), kBacklog) != 0)
    return failed(Operation::kOpenResolver, path);
  return opened;
}

Result<void> go_to_background(const char* name) {
  pid_t child = ::fork();
  if (child < 0) return failed(Operation::kCloneProcess, name);
  if (child > 0) ::_exit(0);
  ::setsid();
  if (::chdir("/") != 0) return failed(Operation::kChangeDirectory, "/");
  FASTDOCK_TRY(auto null, open_file("/dev/null", O_RDWR));
  for (int standard : {0, 1, 2}) ::dup2(null.get(), standard);
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGCHLD, SIG_IGN);  // the copies end by themselves
  return {};
}

Result<void> drop_privileges() {
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (::geteuid() == 0 && has_nobody()) {
    ::prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
    if (::setgroups(0, nullptr) != 0 || ::setresgid(kNobody, kNobody, kNobody) != 0 ||
        ::setresuid(kNobody, kNobody, kNobody) != 0)
      return failed(Operation::kSetUserId, "nobody");
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2]{};
    data[0].effective = data[0].permitted = 1U << CAP_NET_ADMIN;
    if (::syscall(SYS_capset, &header, data) != 0)
      return failed(Operation::kSetCapabilities, "CAP_NET_ADMIN");
  }
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  return {};
}

Result<Fd> make_copy_of_self(const char* name) {
  int process = -1;
  clone_args arguments{};
  arguments.flags = CLONE_PIDFD;
  arguments.pidfd = reinterpret_cast<std::uintptr_t>(&process);
  arguments.exit_signal = SIGCHLD;
  long copy = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  if (copy < 0) return failed(Operation::kCloneProcess, name);
  return copy == 0 ? Fd{} : Fd(process);
}

void wait_for_end_of(const Fd& process) {
  pollfd end{.fd = process.get(), .events = POLLIN, .revents = 0};
  while (::poll(&end, 1, -1) < 0 && errno == EINTR) {
  }
}

std::size_t use_all_descriptors() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

}  // namespace fastdock::net
