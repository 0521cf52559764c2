#include "rootless/enter.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/fd.h"
#include "base/path.h"
#include "rootless/protocol.h"

namespace fastdock::rootless {
namespace {

constexpr std::size_t kDescriptors = 3;

struct Answer {
  std::string text;
  std::vector<Fd> descriptors;
};

// Nobody but this user can bind there (the directory is 0700), and still: what answers gets to choose our
// namespaces.
Result<void> check_peer(int socket, const std::string& path) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
    return failed(Operation::kUseRootless, path);
  if (peer.uid != ::geteuid())
    return failed_with(EPERM, Operation::kUseRootless, path + " belongs to another user");
  return {};
}

Result<Fd> connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return failed_with(ENAMETOOLONG, Operation::kUseRootless, path);
  std::memcpy(address.sun_path, path.data(), path.size());
  Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket) return failed(Operation::kUseRootless, path);
  // It starts pasta or slirp4netns before it answers, once.
  timeval patience{.tv_sec = 20, .tv_usec = 0};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return failed(Operation::kUseRootless, path);
  FASTDOCK_CHECK(check_peer(socket.get(), path));
  return socket;
}

Result<Answer> converse(const Fd& socket, const std::string& request) {
  if (request.size() > kMaximumPacket) return failed_with(E2BIG, Operation::kUseRootless, "too many ports");
  if (::send(socket.get(), request.data(), request.size(), MSG_NOSIGNAL) < 0)
    return failed(Operation::kUseRootless, kSocketName);
  std::array<char, 4096> bytes;
  iovec part{bytes.data(), bytes.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kDescriptors * sizeof(int))> control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  ssize_t count = ::recvmsg(socket.get(), &header, MSG_CMSG_CLOEXEC);
  if (count < 0) return failed(Operation::kUseRootless, "its namespaces' holder does not answer");
  Answer answer;
  answer.text.assign(bytes.data(), static_cast<std::size_t>(count));
  const cmsghdr* first = CMSG_FIRSTHDR(&header);
  if (first != nullptr && first->cmsg_type == SCM_RIGHTS) {
    std::size_t size = first->cmsg_len - CMSG_LEN(0);
    std::array<int, kDescriptors> numbers{};
    std::memcpy(numbers.data(), CMSG_DATA(first), std::min(size, sizeof numbers));
    for (std::size_t i = 0; i < size / sizeof(int); ++i) answer.descriptors.emplace_back(numbers[i]);
  }
  if (count == 0) return failed_with(ECONNRESET, Operation::kUseRootless, kSocketName);
  return answer;
}

// Runs the holder's program, which returns when it listens.  What it says on stderr is why it does not.
Result<void> start(const std::string& program, const std::string& run_directory, int lock) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return failed(Operation::kCreatePipe);
  Fd ours(ends[0]);
  Fd theirs(ends[1]);
  std::string lock_number = std::to_string(lock);
  std::array<char*, 4> argv = {const_cast<char*>(program.c_str()), const_cast<char*>(run_directory.c_str()),
                               lock_number.data(), nullptr};
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
  ::posix_spawn_file_actions_adddup2(&actions, 0, 1);
  ::posix_spawn_file_actions_adddup2(&actions, theirs.get(), 2);
  // To itself: that clears its close-on-exec flag (posix_spawn_file_actions_adddup2(3)).
  ::posix_spawn_file_actions_adddup2(&actions, lock, lock);
  pid_t pid = -1;
  int answer = ::posix_spawn(&pid, program.c_str(), &actions, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (answer != 0) return failed_with(answer, Operation::kExecute, program);
  theirs.reset();
  FASTDOCK_TRY(std::string said, read_all(ours.get(), program));
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  while (said.ends_with('\n')) said.pop_back();
  return failed_with(0, Operation::kUseRootless, said.empty() ? program + " was killed" : said);
}

bool nobody_listens(const Error& error) { return error.number == ENOENT || error.number == ECONNREFUSED; }

Result<Fd> connect_or_start(const std::string& run_directory, const std::string& program) {
  std::string path = run_directory + "/" + kSocketName;
  auto socket = connect_to(path);
  if (socket || !nobody_listens(socket.error())) return socket;
  FASTDOCK_TRY(Fd lock, open_file(run_directory + "/" + kLockName, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  while (::flock(lock.get(), LOCK_EX) != 0)
    if (errno != EINTR) return failed(Operation::kLockFile, run_directory);
  socket = connect_to(path);  // somebody else may have been first
  if (socket || !nobody_listens(socket.error())) return socket;
  FASTDOCK_CHECK(start(program, run_directory, lock.get()));
  return connect_to(path);
}

Result<void> join(const Fd& descriptor, int type, const char* name) {
  if (::setns(descriptor.get(), type) == 0) return {};
  // setns(2): EINVAL, a process with threads cannot join a user namespace.
  Hint hint = errno == EINVAL && type == CLONE_NEWUSER ? Hint::kProcessHasThreads : Hint::kNone;
  return failed(Operation::kJoinNamespace, name, hint);
}

Result<Entered> parse(const std::string& text) {
  Entered entered;
  std::size_t pid_end = text.find(' ', 3);
  std::size_t way_end = text.find(' ', pid_end + 1);
  if (!text.starts_with("ok ") || pid_end == std::string::npos || way_end == std::string::npos)
    return failed_with(EPROTO, Operation::kUseRootless, text);
  entered.holder = std::atoi(text.c_str() + 3);
  entered.way = text.substr(pid_end + 1, way_end - pid_end - 1);
  if (entered.way == "-") entered.way.clear();
  entered.reason = text.substr(way_end + 1);
  return entered;
}

}  // namespace

Result<Entered> enter(const std::string& run_directory, const std::string& program, bool network) {
  FASTDOCK_TRY(Fd socket, connect_or_start(run_directory, program));
  auto heard = converse(socket, "enter");
  if (!heard && (heard.error().number == ECONNRESET || heard.error().number == EPIPE)) {
    // One that was just about to end.
    FASTDOCK_TRY(socket, connect_or_start(run_directory, program));
    heard = converse(socket, "enter");
  }
  if (!heard) return std::unexpected(std::move(heard.error()));
  Answer answer = std::move(*heard);
  FASTDOCK_TRY(Entered entered, parse(answer.text));
  if (answer.descriptors.size() < 2) return failed_with(EPROTO, Operation::kUseRootless, answer.text);
  char directory[PATH_MAX];
  bool known = ::getcwd(directory, sizeof directory) != nullptr && directory[0] == '/';
  FASTDOCK_CHECK(join(answer.descriptors[0], CLONE_NEWUSER, "user"));
  FASTDOCK_CHECK(join(answer.descriptors[1], CLONE_NEWNS, "mount"));
  if (network && answer.descriptors.size() > 2)
    FASTDOCK_CHECK(join(answer.descriptors[2], CLONE_NEWNET, "net"));
  // setns(2) of a mount namespace goes to its root directory.
  if (known && ::chdir(directory) != 0) return failed(Operation::kChangeDirectory, directory);
  return entered;
}

Result<std::string> ask(const std::string& run_directory, const std::string& request) {
  FASTDOCK_TRY(Fd socket, connect_to(run_directory + "/" + kSocketName));
  FASTDOCK_TRY(Answer answer, converse(socket, request));
  return answer.text;
}

}  // namespace fastdock::rootless
