#include "oci/notify_socket.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/descriptors.h"
#include "base/path.h"
#include "oci/terminal.h"

namespace fastdock::oci {
namespace {

constexpr const char* kVariable = "NOTIFY_SOCKET";
constexpr const char* kPlace = "/run/notify";  // runc's
constexpr const char* kName = "notify.sock";

std::string directory_of(const Container& container) { return container.directory() + "/notify"; }

std::unexpected<Error> cannot(std::string what, int number) {
  return failed_with(number, Operation::kUseContainer,
                     "NOTIFY_SOCKET: cannot " + std::move(what) + ": " + std::strerror(number));
}

// The line of a message that says READY=; empty: none does.
std::string_view ready_line(std::string_view message) {
  while (!message.empty()) {
    std::string_view line = message.substr(0, message.find('\n'));
    if (line.starts_with("READY=")) return line;
    message.remove_prefix(std::min(line.size() + 1, message.size()));
  }
  return {};
}

// Whoever may enter the directory may write to it.  By umask, not chmod(2): a container that has made its
// view of the directory writable could put a link in its place.
Result<Fd> bind_socket(const std::string& path) {
  FASTDOCK_TRY(Fd directory, open_file(path, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return cannot("make a socket", errno);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  // By descriptor: the path may be longer than sun_path.
  std::string name = "/proc/self/fd/" + std::to_string(directory.get()) + "/" + kName;
  std::memcpy(address.sun_path, name.c_str(), name.size());
  (void)::unlinkat(directory.get(), kName, 0);  // of a `start` that failed
  mode_t before = ::umask(0);
  int bound = ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  int number = errno;
  ::umask(before);
  if (bound != 0) return cannot("listen at " + path + "/" + kName, number);
  return socket;
}

}  // namespace

bool is_notify_wanted() {
  const char* socket = std::getenv(kVariable);
  return socket != nullptr && *socket != '\0';
}

Result<void> add_notify_directory(const Container& container, launch::LaunchPlan& plan) {
  const std::string directory = directory_of(container);
  // For users other than root, whatever the caller's umask.
  if (::mkdir(directory.c_str(), 0755) != 0 || ::chmod(directory.c_str(), 0755) != 0)
    return failed(Operation::kCreateDirectory, directory);
  rootfs::Mount mount;
  mount.type = "bind";
  mount.source = directory;
  mount.destination = kPlace;
  mount.attributes_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  plan.mounts.push_back(std::move(mount));
  plan.environment.push_back(std::string(kVariable) + "=" + kPlace + "/" + kName);
  keep_last_of_each_name(plan.environment);
  return {};
}

bool has_notify_directory(const Container& container) {
  return ::access(directory_of(container).c_str(), F_OK) == 0;
}

Result<NotifySocket> NotifySocket::open(const Container& container) {
  const char* address = std::getenv(kVariable);
  auto manager = connect_to(address, SOCK_DGRAM);
  if (!manager) return cannot(std::string("reach ") + address, manager.error().number);
  FASTDOCK_TRY(Fd socket, bind_socket(directory_of(container)));
  return NotifySocket(std::move(socket), std::move(*manager));
}

Result<void> NotifySocket::send(const std::string& text) const {
  ssize_t count = ::send(manager_.get(), text.data(), text.size(), MSG_NOSIGNAL);
  return count < 0 ? cannot("send " + text, errno) : Result<void>{};
}

Result<bool> NotifySocket::forward(pid_t main_process) const {
  std::array<char, 4096> buffer;
  // Descriptors that come with it are not taken.
  ssize_t count = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (count < 0 && (errno == EINTR || errno == EAGAIN)) return false;
  if (count < 0) return cannot("receive", errno);
  std::string_view line = ready_line({buffer.data(), static_cast<std::size_t>(count)});
  if (line.empty()) return false;
  FASTDOCK_CHECK(send(std::string(line) + "\n"));
  FASTDOCK_CHECK(send("MAINPID=" + std::to_string(main_process) + "\n"));
  return true;
}

// sd_notify_barrier(3): the reader closes the descriptor when it has come so far.
Result<void> NotifySocket::wait_until_read() const {
  constexpr int kLongestMs = 30'000;  // runc's: who does not know the protocol keeps it open
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return failed(Operation::kCreatePipe);
  Fd ours(ends[0]);
  Fd theirs(ends[1]);
  const int given = theirs.get();
  if (send_with_descriptors(manager_.get(), "BARRIER=1", {&given, 1}) < 0)
    return cannot("send BARRIER=1", errno);
  theirs.reset();
  pollfd closed{ours.get(), POLLIN, 0};
  while (::poll(&closed, 1, kLongestMs) < 0 && errno == EINTR) {
  }
  return {};
}

Result<void> NotifySocket::wait_until_ready(int pidfd, pid_t main_process) const {
  std::array<pollfd, 2> watched = {{{socket_.get(), POLLIN, 0}, {pidfd, POLLIN, 0}}};
  while (true) {
    if (::poll(watched.data(), watched.size(), -1) < 0 && errno != EINTR)
      return failed(Operation::kWaitForProcess);
    if (watched[0].revents != 0) {
      FASTDOCK_TRY(bool ready, forward(main_process));
      if (ready) return wait_until_read();
    } else if (watched[1].revents != 0) {
      return {};
    }
  }
}

}  // namespace fastdock::oci
