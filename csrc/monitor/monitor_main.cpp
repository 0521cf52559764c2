#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "base/path.h"
#include "launch/helper.h"
#include "monitor/monitor.h"

namespace fastdock::monitor {
namespace {

// Of the caller only the two descriptors stay.
bool leave_caller(int& request, int& answer) {
  // prctl(2): no ptrace, no /proc/PID/mem and /proc/PID/fd, not for its children either (CVE-2016-9962).
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  ::setsid();
  ::umask(022);
  request = ::fcntl(request, F_DUPFD_CLOEXEC, 100);
  answer = ::fcntl(answer, F_DUPFD_CLOEXEC, 100);
  if (request < 0 || answer < 0 || ::chdir("/") != 0) return false;
  auto [low, high] = std::minmax({static_cast<unsigned>(request), static_cast<unsigned>(answer)});
  ::close_range(0, low - 1, 0);
  if (low + 1 < high) ::close_range(low + 1, high - 1, 0);
  ::close_range(high + 1, ~0U, 0);
  ::signal(SIGCHLD, SIG_DFL);              // if the caller ignores it, so would we
  int null = ::open("/dev/null", O_RDWR);  // 0: as in every process, the first three are taken
  return null == 0 && ::dup2(0, 1) == 1 && ::dup2(0, 2) == 2;
}

void protect_from_oom() {
  // The container's memory is to go first, then this.  Without CAP_SYS_RESOURCE it stays as it is.
  (void)write_file("/proc/self/oom_score_adj", "-900");
}

Result<void> start_and_answer(Monitor& monitor, Fd& answer, int attached) {
  FASTDOCK_CHECK(monitor.start());
  std::string warnings;
  for (const std::string& warning : monitor.warnings()) warnings += warning + '\n';
  warnings.resize(std::min(warnings.size(), kMaximumPayload - sizeof(PacketHeader)));
  (void)send_packet(answer.get(), Packet::kStarted, monitor.pid(), warnings);
  monitor.clients().adopt(std::move(answer), attached);
  return {};
}

Result<void> monitor_container(int request_number, Fd answer, int attached) {
  auto begun = [&]() -> Result<Request> {
    Fd request(request_number);
    FASTDOCK_TRY(Fd program, open_file("/proc/self/exe", O_RDONLY));
    launch::set_helper_descriptor(std::move(program));
    ::lseek(request.get(), 0, SEEK_SET);
    FASTDOCK_TRY(std::string bytes, read_all(request.get(), "request"));
    return from_bytes(bytes);
  }();
  Result<void> started;
  std::optional<Monitor> monitor;
  if (begun) {
    monitor.emplace(std::move(*begun));
    started = start_and_answer(*monitor, answer, attached);
  } else {
    started = std::unexpected(begun.error());
  }
  if (!started) {
    (void)send_packet(answer.get(), Packet::kFailed, 0, failure_payload(started.error()));
    return started;
  }
  ::malloc_trim(0);
  monitor->serve();
  return {};
}

}  // namespace

int monitor_main(int argc, char** argv) {
  if (argc != 4) return 125;
  int request = std::atoi(argv[1]);
  int answer = std::atoi(argv[2]);
  if (!leave_caller(request, answer)) return 125;
  protect_from_oom();
  return monitor_container(request, Fd(answer), std::atoi(argv[3])) ? 0 : 1;
}

}  // namespace fastdock::monitor
