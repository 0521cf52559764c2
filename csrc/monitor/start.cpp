#include "monitor/start.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <mutex>

#include "base/clone.h"
#include "base/path.h"
#include "base/raw_syscall.h"
#include "base/sealed.h"
#include "monitor/protocol.h"

namespace fastdock::monitor {
namespace {

std::span<const std::byte> monitor_program;

constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

bool is_our_program(int fd) {
  struct stat status{};
  if (::fcntl(fd, F_GET_SEALS) != kSeals || ::fstat(fd, &status) != 0 ||
      static_cast<std::size_t>(status.st_size) != monitor_program.size())
    return false;
  void* content = ::mmap(nullptr, monitor_program.size(), PROT_READ, MAP_SHARED, fd, 0);
  if (content == MAP_FAILED) return false;
  bool equal = std::memcmp(content, monitor_program.data(), monitor_program.size()) == 0;
  ::munmap(content, monitor_program.size());
  return equal;
}

// The program of a monitor that runs: page cache is shared by inode, so each memfd of our own would cost
// every monitor its pages again.  Whatever process the number leads to, the seals and the bytes decide.
Fd running_program(const Places& places) {
  constexpr int kMaximumTried = 4;
  std::unique_ptr<DIR, int (*)(DIR*)> containers(::opendir((places.run + "/containers").c_str()), ::closedir);
  for (int tried = 0; containers && tried < kMaximumTried;) {
    const dirent* entry = ::readdir(containers.get());
    if (entry == nullptr) break;
    if (entry->d_name[0] == '.') continue;
    auto state =
        read_file(places.run + "/containers/" + static_cast<const char*>(entry->d_name) + "/state.json");
    if (!state) continue;
    constexpr std::string_view kKey = "\"monitor\":";
    auto at = state->find(kKey);
    if (at == std::string::npos) continue;
    long pid = std::strtol(state->c_str() + at + kKey.size(), nullptr, 10);
    if (pid <= 0) continue;
    ++tried;
    auto program = open_file("/proc/" + std::to_string(pid) + "/exe", O_RDONLY);
    if (program && is_our_program(program->get())) return std::move(*program);
  }
  return {};
}

Result<int> program_descriptor(const Places& places) {
  static std::mutex mutex;
  static Fd program;
  std::scoped_lock guard(mutex);
  if (program) return program.get();
  program = running_program(places);
  if (program) return program.get();
  FASTDOCK_TRY(program, sealed_memory("fastdock-monitor", monitor_program));
  return program.get();
}

// What the process between our clone and the monitor's execve reads; it shares our memory.
struct Execution {
  int program, request, answer;
  const char* argv[5];
  const char* environment[2];
};

// The monitor is nobody's child here: this process has one of its own execute it, waits until it has its own
// memory (CLONE_VFORK; until then they are on one stack, so nothing may return here), and ends.
[[noreturn]] void execute_monitor(void* argument) {
  const auto& exec = *static_cast<const Execution*>(argument);
  long answer = raw_syscall(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, nullptr, nullptr, nullptr, nullptr);
  if (answer > 0)
    while (true) raw_syscall(SYS_exit_group, 0);
  Operation operation = Operation::kCloneProcess;
  if (answer == 0) {
    for (int fd : {exec.request, exec.answer}) raw_syscall(SYS_fcntl, fd, F_SETFD, 0);
    operation = Operation::kRunHelper;
    answer = raw_syscall(SYS_execveat, exec.program, "", exec.argv, exec.environment, AT_EMPTY_PATH);
  }
  struct {
    PacketHeader head;
    Failure failure;
  } packet{{Packet::kFailed, 0},
           {static_cast<std::int32_t>(-answer), static_cast<std::uint16_t>(operation), 0}};
  raw_syscall(SYS_sendto, exec.answer, &packet, sizeof packet, MSG_NOSIGNAL, nullptr, 0);
  while (true) raw_syscall(SYS_exit_group, 127);
}

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    std::size_t end = std::min(text.find('\n'), text.size());
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

Result<Started> receive_answer(Fd socket) {
  auto buffer = std::make_unique<char[]>(kMaximumPayload);
  ssize_t count = ::recv(socket.get(), buffer.get(), kMaximumPayload, 0);
  while (count < 0 && errno == EINTR) count = ::recv(socket.get(), buffer.get(), kMaximumPayload, 0);
  PacketHeader head;
  // Nothing: the monitor was killed before it could say anything.
  if (count < static_cast<ssize_t>(sizeof head)) return failed_with(EPIPE, Operation::kRunHelper, "monitor");
  std::memcpy(&head, buffer.get(), sizeof head);
  std::string_view payload(buffer.get() + sizeof head, static_cast<std::size_t>(count) - sizeof head);
  if (head.kind == Packet::kStarted) return Started{head.value, lines_of(payload), std::move(socket)};
  Failure failure;
  if (payload.size() < sizeof failure) return failed_with(EPROTO, Operation::kRunHelper, "monitor");
  std::memcpy(&failure, payload.data(), sizeof failure);
  return failed_with(failure.number, static_cast<Operation>(failure.operation),
                     payload.substr(sizeof failure), static_cast<Hint>(failure.hint));
}

}  // namespace

void set_monitor_program(std::span<const std::byte> program) { monitor_program = program; }

Result<Started> start(const Request& request, int attached) {
  std::string bytes = to_bytes(request);
  FASTDOCK_TRY(Fd memory, sealed_memory("fastdock-request", std::as_bytes(std::span(bytes))));
  FASTDOCK_TRY(int program, program_descriptor(request.places));
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return failed(Operation::kCreatePipe);
  Fd ours(ends[0]);
  Fd theirs(ends[1]);
  std::string request_number = std::to_string(memory.get());
  std::string answer_number = std::to_string(theirs.get());
  std::string bits = std::to_string(attached);
  // glibc would set aside an arena's address space for each thread, and keep freed memory: neither is wanted.
  Execution exec{
      program,
      memory.get(),
      theirs.get(),
      {"fastdock-monitor", request_number.c_str(), answer_number.c_str(), bits.c_str(), nullptr},
      {"GLIBC_TUNABLES=glibc.malloc.arena_max=1:glibc.malloc.trim_threshold=65536:glibc.malloc.mmap_"
       "threshold=65536",
       nullptr}};
  FASTDOCK_TRY(Child child, clone_sharing_memory(0, execute_monitor, &exec));
  theirs.reset();
  // The process in between; the monitor is not its, nor our, child any more.
  while (::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(child.pidfd.get()), nullptr,
                  WEXITED | __WALL) != 0 &&
         errno == EINTR) {
  }
  return receive_answer(std::move(ours));
}

}  // namespace fastdock::monitor
