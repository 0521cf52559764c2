// fastdock-dns: one per engine root.  Started by the engine when a container first needs it, ends by itself
// when none is left.
//
//   fastdock-dns SOCKET TABLE [IDLE_SECONDS]
//
// Returns to its caller when it listens, and goes on in the background.  If one is running, that is success.
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
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
#include <charconv>
#include <cstdio>
#include <cstring>

#include "base/path.h"
#include "net/dns/server.h"

namespace fastdock::net::dns {
namespace {

constexpr uid_t kNobody = 65534;

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), std::min(path.size(), sizeof address.sun_path - 1));
  return address;
}

Result<Fd> listen_on(const std::string& path) {
  sockaddr_un address = address_of(path);
  Fd opened(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!opened) return failed(Operation::kOpenResolver, path);
  ::unlink(path.c_str());  // of one that was killed; nobody else is here, we hold the lock
  if (::bind(opened.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::chmod(path.c_str(), 0600) != 0 || ::listen(opened.get(), kBacklog) != 0)
    return failed(Operation::kOpenResolver, path);
  return opened;
}

// False where an ordinary user has no ids but its own.
bool has_nobody() {
  std::string map = read_file("/proc/self/uid_map").value_or("");
  unsigned inside = 0;
  unsigned outside = 0;
  unsigned count = 0;
  return std::sscanf(map.c_str(), "%u %u %u", &inside, &outside, &count) != 3 || count > 1 ||
         map.find('\n') + 1 < map.size();
}

// The process reads bytes from containers: it keeps the one capability that opening the firewall for a name
// needs.
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

void use_all_descriptors() {  // two sockets and a pidfd per container
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

// The parent exits, so that the engine that started it goes on; the child belongs to nobody's terminal or
// session.
Result<void> go_to_background() {
  pid_t child = ::fork();
  if (child < 0) return failed(Operation::kCloneProcess, "fastdock-dns");
  if (child > 0) ::_exit(0);
  ::setsid();
  if (::chdir("/") != 0) return failed(Operation::kChangeDirectory, "/");
  FASTDOCK_TRY(auto null, open_file("/dev/null", O_RDWR));
  for (int standard : {0, 1, 2}) ::dup2(null.get(), standard);
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGCHLD, SIG_IGN);  // the copies (server.h) end by themselves
  return {};
}

Result<void> serve(const std::string& path, const std::string& table, std::chrono::seconds idle) {
  if (path.size() >= sizeof(sockaddr_un::sun_path))
    return failed_with(ENAMETOOLONG, Operation::kOpenResolver, path);
  FASTDOCK_TRY(auto lock, open_file(path + ".lock", O_RDWR | O_CREAT, 0600));
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return {};
    return failed(Operation::kLockFile, path + ".lock");
  }
  FASTDOCK_TRY(auto control, listen_on(path));
  uid_t owner = ::geteuid();
  FASTDOCK_CHECK(go_to_background());
  // Again, so that SO_PEERCRED names this process to whoever connects, and not the parent.
  if (::listen(control.get(), kBacklog) != 0) return failed(Operation::kOpenResolver, path);
  use_all_descriptors();
  FASTDOCK_CHECK(drop_privileges());
  Scope scope;
  scope.table = table;
  return Server(scope, std::move(control), owner, idle).run();
}

}  // namespace
}  // namespace fastdock::net::dns

int main(int argc, char** argv) {
  using namespace fastdock;
  long idle = 30;
  if (argc == 4) {
    std::string_view text(argv[3]);
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), idle);
    if (error != std::errc{} || end != text.data() + text.size() || idle < 0) argc = 0;
  }
  if (argc < 3 || argc > 4) {
    std::fputs("usage: fastdock-dns SOCKET TABLE [IDLE_SECONDS]\n", stderr);
    return 2;
  }
  auto served = net::dns::serve(argv[1], argv[2], std::chrono::seconds(idle));
  if (!served) {
    std::fprintf(stderr, "fastdock-dns: %s\n", describe(served.error()).c_str());
    return 1;
  }
  return 0;
}
