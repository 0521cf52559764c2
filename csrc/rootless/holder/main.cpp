// fastdock-rootless: the holder of one ordinary user's namespaces.
//
//   fastdock-rootless RUN_DIRECTORY LOCK
//
// Started by rootless/enter.cpp with a lock held on descriptor LOCK, which says that nobody else starts one.
// Returns when it listens, and goes on in the background until it is told to stop: it keeps the user and
// mount namespace in which `fastdock` works, the network namespace with its way out, and the published ports.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/path.h"
#include "rootless/holder/namespaces.h"
#include "rootless/holder/server.h"
#include "rootless/id_maps.h"
#include "rootless/protocol.h"

namespace fastdock::rootless {
namespace {

// The other process's end of a pipe pair.
struct Peer {
  Fd in, out;
  bool tell(char word) const { return ::write(out.get(), &word, 1) == 1; }
  // 0: it is gone.
  [[nodiscard]] char hear() const {
    char word = 0;
    while (::read(in.get(), &word, 1) < 0 && errno == EINTR) {
    }
    return word;
  }
};

constexpr char kMap = 'm';
constexpr char kReady = 'r';

Result<void> check_directory(const std::string& path) {
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0) return failed(Operation::kInspectFile, path);
  if (S_ISDIR(status.st_mode) && status.st_uid == ::geteuid() && (status.st_mode & 077) == 0) return {};
  return failed_with(EPERM, Operation::kUseRootless, path + " is not a directory of this user alone");
}

Result<Held> own_namespaces() {
  Held held;
  FASTDOCK_TRY(held.user, open_file("/proc/self/ns/user", O_RDONLY));
  FASTDOCK_TRY(held.mount, open_file("/proc/self/ns/mnt", O_RDONLY));
  return held;
}

Result<void> make_namespaces(const Peer& parent) {
  if (::unshare(CLONE_NEWUSER) != 0)
    return failed(Operation::kCreateNamespace, "user", Hint::kUserNamespaceForbidden);
  // The parent says why, if it cannot map ids.
  if (!parent.tell(kMap) || parent.hear() != kMap) ::_exit(1);
  if (::unshare(CLONE_NEWNS) != 0)
    return failed(Operation::kCreateNamespace, "mount", Hint::kNamespaceForbidden);
  // What is mounted on the host later is seen; what is mounted here stays here.
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0)
    return failed(Operation::kSetPropagation, "/");
  return {};
}

Result<void> join_survivors(Survivors& survivors) {
  if (::setns(survivors.user.get(), CLONE_NEWUSER) != 0 || ::setns(survivors.mount.get(), CLONE_NEWNS) != 0)
    return failed(Operation::kJoinNamespace, "of the holder before");
  return {};
}

Result<Fd> listen_on(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return failed_with(ENAMETOOLONG, Operation::kUseRootless, path);
  std::memcpy(address.sun_path, path.data(), path.size());
  Fd opened(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!opened) return failed(Operation::kUseRootless, path);
  ::unlink(path.c_str());  // of one that was killed; nobody else is here, we hold the lock
  if (::bind(opened.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::chmod(path.c_str(), 0600) != 0 || ::listen(opened.get(), 128) != 0)
    return failed(Operation::kUseRootless, path);
  return opened;
}

void settle() {
  ::setsid();
  ::signal(SIGPIPE, SIG_IGN);
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {  // six for each connection that passes
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
  // For the server's signalfd; before there is a thread.
  sigset_t blocked;
  ::sigemptyset(&blocked);
  for (int number : {SIGCHLD, SIGTERM}) ::sigaddset(&blocked, number);
  ::sigprocmask(SIG_BLOCK, &blocked, nullptr);
}

// As a file, because pasta has given up the right to look into other processes when it opens its namespace.
Result<void> mount_namespace(int descriptor, const std::string& path) {
  ::umount2(path.c_str(), MNT_DETACH);  // of the holder before, where its mount namespace goes on
  FASTDOCK_TRY(Fd file, open_file(path, O_RDONLY | O_CREAT | O_NOFOLLOW, 0600));
  std::string source = "/proc/self/fd/" + std::to_string(descriptor);
  if (::mount(source.c_str(), path.c_str(), nullptr, MS_BIND, nullptr) != 0)
    return failed(Operation::kAttachMount, path);
  return {};
}

Result<void> hold(const std::string& run, const Peer& parent, Fd lock) {
  settle();
  std::string numbers_file = run + "/" + kNamespacesName;
  auto before = read_numbers(numbers_file);
  Survivors survivors = before ? find_survivors(*before) : Survivors{};
  FASTDOCK_CHECK(survivors.user ? join_survivors(survivors) : make_namespaces(parent));
  if (::chdir("/") != 0) return failed(Operation::kChangeDirectory, "/");
  FASTDOCK_TRY(Held held, own_namespaces());
  FASTDOCK_TRY(auto relay, Relay::start(std::move(survivors.net)));
  std::string proc = "/proc/" + std::to_string(::getpid());
  std::string net_file = run + "/rootless.netns";
  FASTDOCK_CHECK(mount_namespace(relay->namespace_descriptor(), net_file));
  FASTDOCK_CHECK(write_numbers(
      numbers_file, {number_of("/proc/self/ns/user"), number_of("/proc/self/ns/mnt"), number_of(net_file)}));
  WayOut way_out(net_file, proc + "/task/" + std::to_string(relay->thread()) + "/net", run);
  FASTDOCK_TRY(Fd control, listen_on(run + "/" + kSocketName));
  if (!parent.tell(kReady)) return failed_with(EPIPE, Operation::kUseRootless, "parent");
  FASTDOCK_TRY(Fd null, open_file("/dev/null", O_RDWR));
  ::dup2(null.get(), 2);
  lock.reset();
  Server server(std::move(control), run, std::move(held), *relay, way_out);
  auto served = server.run();
  ::_exit(served ? 0 : 1);  // the relay's thread goes with it
}

// Outside, until the other holds the namespaces: only here may ids be mapped.
int stay_outside(const Peer& child, pid_t pid) {
  char word = child.hear();
  if (word == kMap) {
    auto mapped = map_ids(pid, own_maps());
    if (!mapped) {
      std::fprintf(stderr, "%s\n", describe(mapped.error()).c_str());
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
      return 1;
    }
    child.tell(kMap);
    word = child.hear();
  }
  if (word == kReady) return 0;
  ::waitpid(pid, nullptr, 0);  // it has said why
  return 1;
}

int start(const std::string& run, Fd lock) {
  if (auto checked = check_directory(run); !checked) {
    std::fprintf(stderr, "%s\n", describe(checked.error()).c_str());
    return 1;
  }
  int down[2];
  int up[2];
  if (::pipe2(down, O_CLOEXEC) != 0 || ::pipe2(up, O_CLOEXEC) != 0) return 1;
  Peer child{Fd(up[0]), Fd(down[1])};
  Peer parent{Fd(down[0]), Fd(up[1])};
  pid_t pid = ::fork();
  if (pid < 0) return 1;
  if (pid > 0) {
    parent = {};
    return stay_outside(child, pid);
  }
  child = {};
  auto held = hold(run, parent, std::move(lock));
  std::fprintf(stderr, "%s\n", describe(held.error()).c_str());
  return 1;
}

}  // namespace
}  // namespace fastdock::rootless

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("usage: fastdock-rootless RUN_DIRECTORY LOCK\n", stderr);
    return 2;
  }
  int lock = std::atoi(argv[2]);
  ::fcntl(lock, F_SETFD, FD_CLOEXEC);
  return fastdock::rootless::start(argv[1], fastdock::Fd(lock));
}
