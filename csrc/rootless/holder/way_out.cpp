#include "rootless/holder/way_out.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <sstream>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/path.h"
#include "rootless/id_maps.h"

namespace fastdock::rootless {
namespace {

constexpr const char* kDevice = "fdout0";
// Where they answer for the host's own resolver: of pasta, an address of our choice (podman's); of
// slirp4netns, its fixed one.
constexpr const char* kPastaDns = "169.254.1.1";
constexpr const char* kSlirpDns = "10.0.2.3";
constexpr std::chrono::seconds kPatience(8);
constexpr int kMaximumRestarts = 3;

// Neither may lead to what listens on the host's loopback device, which nobody outside reaches either.
std::vector<std::string> command(const std::string& name, const std::string& path, const std::string& net) {
  if (name == "pasta")
    return {path,          "--foreground",
            "--quiet",     "--config-net",
            "--no-map-gw", "--dns-forward",
            kPastaDns,     "--ns-ifname",
            kDevice,       "-t",
            "none",        "-u",
            "none",        "-T",
            "none",        "-U",
            "none",        "--netns-only",
            "--netns",     net};
  return {path,
          "--configure",
          "--mtu=65520",
          "--disable-host-loopback",
          "--enable-sandbox",
          "--enable-seccomp",
          "--netns-type=path",
          net,
          kDevice};
}

// Lines of /proc/net/route: device, destination, gateway ...; of /proc/net/ipv6_route the device is last.
bool has_default_route(const std::string& text, const std::string& beginning) {
  std::string_view rest = text;
  while (!rest.empty()) {
    std::size_t end = rest.find('\n');
    std::string_view line = rest.substr(0, end);
    rest = end == std::string_view::npos ? "" : rest.substr(end + 1);
    if (line.starts_with(beginning) && line.find(kDevice) != std::string_view::npos) return true;
  }
  return false;
}

// The first date in "pasta 0.0~git20230309.7c7625d-1" or "pasta 2023_03_09.7c7625d" as a number; 0: none.
int date_in(std::string_view version) {
  std::string digits;
  for (char c : version) {
    if (c == '_' && !digits.empty()) continue;
    if (c >= '0' && c <= '9') {
      digits += c;
    } else {
      digits.clear();
    }
    if (digits.size() == 8 && digits.starts_with("20")) return std::atoi(digits.c_str());
  }
  return 0;
}

// Seen with 2023-03-09 (Debian 12): where one side has ended a connection, what the other sends on arrives
// several times.  Since 2024, when podman made it its default, it is taken to be sound.
bool pasta_repeats_bytes() {
  std::string path = find_program("pasta");
  if (path.empty()) return false;
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return false;
  Fd ours(ends[0]);
  Fd theirs(ends[1]);
  char option[] = "--version";
  std::array<char*, 3> argv = {path.data(), option, nullptr};
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, theirs.get(), 1);
  pid_t pid = -1;
  bool started = ::posix_spawn(&pid, path.c_str(), &actions, nullptr, argv.data(), environ) == 0;
  ::posix_spawn_file_actions_destroy(&actions);
  if (!started) return false;
  theirs.reset();
  std::string said = read_all(ours.get(), path).value_or("");
  ::waitpid(pid, nullptr, 0);
  constexpr int kSound = 20240101;
  int date = date_in(said);
  return date != 0 && date < kSound;
}

// systemd-resolved and its like listen on the host's loopback device, which is not that of the namespace.
bool only_local_servers(const std::string& conf) {
  std::istringstream lines(conf);
  std::string line;
  bool any = false;
  while (std::getline(lines, line)) {
    std::istringstream words(line);
    std::string key;
    std::string server;
    if (!(words >> key >> server) || key != "nameserver") continue;
    if (!server.starts_with("127.") && server != "::1") return false;
    any = true;
  }
  return any;
}

[[noreturn]] void execute(const std::vector<char*>& argv, int log, pid_t parent) {
  // What it does for us must end with us; after a change of credentials of its own the kernel forgets this,
  // and the next holder finds the device taken and says so.
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(1);
  // slirp4netns looks at /etc again when it already runs: it must not find what use_dns() mounts there.
  if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    ::_exit(1);
  ::setsid();
  for (int target : {1, 2}) ::dup2(log, target);
  ::signal(SIGPIPE, SIG_DFL);  // pasta takes one that is ignored already for an error of signal(2)
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execv(argv[0], argv.data());
  ::_exit(127);
}

}  // namespace

bool WayOut::leads_out() const {
  return has_default_route(read_file(view_ + "/route").value_or(""), std::string(kDevice) + "\t00000000") ||
         has_default_route(read_file(view_ + "/ipv6_route").value_or(""),
                           "00000000000000000000000000000000 00 ");
}

std::string WayOut::last_words() const {
  std::string text = read_file(log_).value_or("");
  while (text.ends_with('\n')) text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

bool WayOut::start(const std::string& name, const std::string& path) {
  auto log = open_file(log_, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);
  if (!log) return false;
  std::vector<std::string> words = command(name, path, net_);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t parent = ::getpid();
  pid_t pid = ::fork();
  if (pid == 0) execute(argv, log->get(), parent);
  if (pid < 0) return false;
  auto end = std::chrono::steady_clock::now() + kPatience;
  while (std::chrono::steady_clock::now() < end) {
    if (leads_out()) {
      pid_ = pid;
      program_ = name;
      reason_.clear();
      if (only_local_servers(read_file("/etc/resolv.conf").value_or("")))
        use_dns(name == "pasta" ? kPastaDns : kSlirpDns);
      return true;
    }
    if (::waitpid(pid, nullptr, WNOHANG) == pid) {
      reason_ = name + ": " + last_words();
      return false;
    }
    ::poll(nullptr, 0, 2);
  }
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  reason_ = name + " made no default route";
  return false;
}

// Both programs read the host's file.
void WayOut::forget_dns() const {
  struct stat ours{};
  struct stat used{};
  if (::stat(resolv_conf_.c_str(), &ours) == 0 && ::stat("/etc/resolv.conf", &used) == 0 &&
      ours.st_ino == used.st_ino && ours.st_dev == used.st_dev)
    ::umount2("/etc/resolv.conf", MNT_DETACH);
}

// Mounted over the host's, in the user's mount namespace only; search domains and options stay.
void WayOut::use_dns(const std::string& server) const {
  std::istringstream lines(read_file("/etc/resolv.conf").value_or(""));
  std::string text = "nameserver " + server + "\n";
  for (std::string line; std::getline(lines, line);)
    if (!line.starts_with("nameserver")) text += line + "\n";
  auto file = open_file(resolv_conf_, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);
  if (!file || ::fchmod(file->get(), 0644) != 0 || !write_file(resolv_conf_, text)) return;
  ::mount(resolv_conf_.c_str(), "/etc/resolv.conf", nullptr, MS_BIND, nullptr);
}

void WayOut::ensure() {
  if (pid_ > 0) return;
  program_.clear();
  forget_dns();
  const char* wanted = std::getenv("FASTDOCK_ROOTLESS_NETWORK");
  reason_ = "install slirp4netns, or passt for pasta";
  std::array<const char*, 2> names = {"pasta", "slirp4netns"};
  if (pasta_repeats_bytes()) std::swap(names[0], names[1]);
  for (const char* name : names) {
    if (wanted != nullptr && *wanted != '\0' && std::string_view(wanted) != name) continue;
    std::string path = find_program(name);
    if (!path.empty() && start(name, path)) return;
  }
}

void WayOut::ended(pid_t pid) {
  if (pid != pid_) return;
  pid_ = -1;
  if (++lost_ <= kMaximumRestarts) ensure();
}

void WayOut::stop() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

}  // namespace fastdock::rootless
