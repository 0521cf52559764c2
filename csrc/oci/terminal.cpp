#include "oci/terminal.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>

#include "base/descriptors.h"
#include "base/path.h"

namespace fastdock::oci {
namespace {

// Reads once and writes all of it; false at the end (or when the other side is gone).
bool copy_once(int from, int to) {
  std::array<char, 16384> buffer;
  ssize_t count = ::read(from, buffer.data(), buffer.size());
  if (count < 0) return errno == EINTR || errno == EAGAIN;
  if (count == 0) return false;
  for (ssize_t done = 0; done < count;) {
    ssize_t written = ::write(to, buffer.data() + done, static_cast<std::size_t>(count - done));
    if (written < 0 && errno != EINTR) return false;
    if (written > 0) done += written;
  }
  return true;
}

// What the program wrote before it ended is still in the terminal.
void drain(int terminal) {
  pollfd readable{terminal, POLLIN, 0};
  while (::poll(&readable, 1, 0) > 0 && (readable.revents & POLLIN) != 0 &&
         copy_once(terminal, STDOUT_FILENO)) {
  }
}

}  // namespace

Result<Fd> connect_to(const std::string& path, int type) {
  Fd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  if (!socket) return failed(Operation::kSendDescriptor, path);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::string name = path;
  Fd directory;
  if (name.size() >= sizeof address.sun_path) {
    auto slash = path.rfind('/');
    FASTDOCK_TRY(directory, open_file(path.substr(0, slash), O_PATH | O_DIRECTORY));
    name = "/proc/self/fd/" + std::to_string(directory.get()) + path.substr(slash);
  }
  if (name.size() >= sizeof address.sun_path)
    return failed_with(ENAMETOOLONG, Operation::kSendDescriptor, path);
  std::memcpy(address.sun_path, name.c_str(), name.size());
  const bool abstract = name.starts_with('@');
  if (abstract) address.sun_path[0] = '\0';
  auto size =
      static_cast<socklen_t>(abstract ? offsetof(sockaddr_un, sun_path) + name.size() : sizeof address);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0)
    return failed(Operation::kSendDescriptor, path);
  return socket;
}

Result<void> send_descriptor(int socket, int descriptor, std::string_view data) {
  if (send_with_descriptors(socket, data, {&descriptor, 1}) == static_cast<ssize_t>(data.size())) return {};
  return failed(Operation::kSendDescriptor);
}

Result<void> send_console(const std::string& socket_path, int terminal) {
  FASTDOCK_TRY(Fd socket, connect_to(socket_path));
  return send_descriptor(socket.get(), terminal, "/dev/ptmx");
}

Result<void> send_pidfd(const std::string& socket_path, const launch::Process& process,
                        std::string_view kind) {
  if (socket_path.empty()) return {};
  FASTDOCK_TRY(Fd socket, connect_to(socket_path));
  return send_descriptor(socket.get(), process.pidfd.get(), kind);
}

Foreground::Foreground() {
  sigset_t forwarded;
  ::sigfillset(&forwarded);
  // Of the program's own errors, and job control of this process itself.
  for (int number :
       {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS, SIGPIPE, SIGTTIN, SIGTTOU, SIGTSTP})
    ::sigdelset(&forwarded, number);
  ::sigprocmask(SIG_BLOCK, &forwarded, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  signals_ = Fd(::signalfd(-1, &forwarded, SFD_CLOEXEC | SFD_NONBLOCK));
}

Foreground::~Foreground() { end_raw(); }

void Foreground::begin_raw() {
  termios attributes{};
  if (::tcgetattr(STDIN_FILENO, &attributes) != 0) return;
  saved_ = attributes;
  ::cfmakeraw(&attributes);
  attributes.c_oflag |= OPOST;  // as runc: newlines of the container's terminal come without carriage returns
  ::tcsetattr(STDIN_FILENO, TCSANOW, &attributes);
}

void Foreground::end_raw() {
  if (saved_) ::tcsetattr(STDIN_FILENO, TCSANOW, &*saved_);
  saved_.reset();
}

void Foreground::copy_size(int terminal) const {
  winsize size{};
  if (::ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0 && (size.ws_row != 0 || size.ws_col != 0))
    ::ioctl(terminal, TIOCSWINSZ, &size);
}

void Foreground::forward_signal(const launch::Process& process) {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
    auto number = static_cast<int>(info.ssi_signo);
    if (number == SIGCHLD) continue;
    if (number == SIGWINCH && process.terminal) {
      copy_size(process.terminal.get());
    } else {
      (void)launch::send_signal(process, number);
    }
  }
}

Result<int> Foreground::wait(launch::Process& process, const Beside& beside) {
  const int terminal = process.terminal.get();
  if (terminal >= 0) {
    begin_raw();
    copy_size(terminal);
  }
  std::array<pollfd, 5> watched = {{{process.pidfd.get(), POLLIN, 0},
                                    {signals_.get(), POLLIN, 0},
                                    {terminal, POLLIN, 0},
                                    {terminal >= 0 ? STDIN_FILENO : -1, POLLIN, 0},
                                    {beside.descriptor, POLLIN, 0}}};
  while (true) {
    if (::poll(watched.data(), watched.size(), -1) < 0 && errno != EINTR)
      return failed(Operation::kWaitForProcess);
    if (watched[1].revents != 0) forward_signal(process);
    // POLLHUP: for the moment nobody has the other side open.
    if ((watched[2].revents & POLLIN) != 0) copy_once(terminal, STDOUT_FILENO);
    if ((watched[2].revents & (POLLHUP | POLLERR)) != 0 && (watched[2].revents & POLLIN) == 0)
      watched[2].fd = -1;
    if (watched[3].revents != 0 && !copy_once(STDIN_FILENO, terminal)) watched[3].fd = -1;
    if (watched[4].revents != 0 && !beside.readable()) watched[4].fd = -1;
    if (watched[0].revents != 0) break;
  }
  if (terminal >= 0) drain(terminal);
  end_raw();
  FASTDOCK_TRY(auto ended, launch::wait(process, -1));
  return ended->code;
}

}  // namespace fastdock::oci
