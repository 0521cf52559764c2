#include "rootless/holder/server.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <sstream>

#include "base/descriptors.h"
#include "rootless/protocol.h"

namespace fastdock::rootless {
namespace {

std::string refused(int number, const std::string& what = {}) {
  return "failed " + std::to_string(number) + (what.empty() ? "" : " " + what);
}

// The directory keeps others out; a container that was given this socket by its user is that user.
bool is_owner(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == ::geteuid();
}

}  // namespace

Result<void> Server::run() {
  sigset_t wanted;
  ::sigemptyset(&wanted);
  for (int number : {SIGCHLD, SIGTERM}) ::sigaddset(&wanted, number);
  Fd signals(::signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals) return failed(Operation::kCreatePipe, "signalfd");
  while (running_) {
    pollfd waits[2] = {{control_.get(), POLLIN, 0}, {signals.get(), POLLIN, 0}};
    if (::poll(waits, 2, -1) < 0 && errno != EINTR) return failed(Operation::kUseRootless, "poll");
    signalfd_siginfo info{};
    while (::read(signals.get(), &info, sizeof info) == sizeof info)
      if (info.ssi_signo == SIGTERM) end();
    reap();
    if ((waits[0].revents & POLLIN) != 0) serve_one();
  }
  way_out_.stop();
  return {};
}

// The name goes first: who comes after the answer starts the next one, in namespaces of its own.
void Server::end() {
  ::unlink((run_ + "/" + kNamespacesName).c_str());
  ::unlink((run_ + "/" + kSocketName).c_str());
  running_ = false;
}

void Server::reap() {
  while (true) {
    pid_t pid = ::waitpid(-1, nullptr, WNOHANG);
    if (pid <= 0) return;
    way_out_.ended(pid);
  }
}

void Server::serve_one() {
  Fd client(::accept4(control_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!client || !is_owner(client.get())) return;
  // Who connects and says nothing must not stop the others for long.
  timeval patience{.tv_sec = 1, .tv_usec = 0};
  ::setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  static std::array<char, kMaximumPacket + 1> bytes;
  ssize_t count = ::recv(client.get(), bytes.data(), bytes.size(), 0);
  if (count <= 0) return;
  std::vector<int> descriptors;
  std::string text = static_cast<std::size_t>(count) > kMaximumPacket
                         ? refused(E2BIG)
                         : answer(std::string(bytes.data(), static_cast<std::size_t>(count)), descriptors);
  (void)send_with_descriptors(client.get(), text, descriptors, MSG_DONTWAIT);
}

std::string Server::answer(const std::string& request, std::vector<int>& descriptors) {
  std::istringstream words(request);
  std::string verb;
  std::string scope;
  words >> verb;
  if (verb == "enter") return enter(descriptors);
  if (verb == "stop") {
    end();
    return "ok";
  }
  if (!(words >> scope)) return refused(EINVAL);
  if (verb == "known") return forwards_.knows(scope) ? "ok" : "unknown";
  if (verb == "set") return set(request);
  if (verb != "take") return refused(EINVAL);
  std::string protocol;
  std::string host;
  std::string port;
  if (!(words >> protocol >> host >> port)) return refused(EINVAL);
  int number = forwards_.take(scope, protocol + " " + host + " " + port);
  return number == 0 ? "ok" : refused(number);
}

std::string Server::enter(std::vector<int>& descriptors) {
  way_out_.ensure();
  descriptors = {held_.user.get(), held_.mount.get()};
  if (!way_out_.program().empty()) descriptors.push_back(relay_.namespace_descriptor());
  std::string way = way_out_.program().empty() ? "-" : way_out_.program();
  return "ok " + std::to_string(::getpid()) + " " + way + " " + way_out_.reason();
}

std::string Server::set(const std::string& request) {
  std::istringstream lines(request);
  std::string line;
  std::getline(lines, line);
  std::string scope = line.substr(std::min<std::size_t>(line.size(), 4));
  std::map<std::string, Address> wanted;
  while (std::getline(lines, line)) {
    std::istringstream words(line);
    std::array<std::string, 5> parts;
    for (std::string& part : parts) words >> part;
    Address target;
    if (!words || !read_address(parts[3], parts[4], target)) return refused(EINVAL, line);
    wanted[parts[0] + " " + parts[1] + " " + parts[2]] = target;
  }
  std::string place;
  int number = forwards_.set(scope, wanted, place);
  return number == 0 ? "ok" : refused(number, place);
}

}  // namespace fastdock::rootless
