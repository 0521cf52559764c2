#include "rootless/holder/namespaces.h"

#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "base/path.h"
#include "rootless/subordinate.h"

namespace fastdock::rootless {
namespace {

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

// Runs newuidmap or newgidmap; they say on stderr why they refuse.
Result<void> run_mapper(const std::string& program, int process, std::uint32_t own,
                        const std::vector<IdRange>& ranges) {
  std::vector<std::string> words = {program, std::to_string(process), "0", std::to_string(own), "1"};
  std::uint32_t inside = 1;
  for (const IdRange& range : ranges) {
    words.insert(words.end(),
                 {std::to_string(inside), std::to_string(range.first), std::to_string(range.count)});
    inside += range.count;
  }
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t pid = -1;
  if (int number = ::posix_spawn(&pid, program.c_str(), nullptr, nullptr, argv.data(), environ); number != 0)
    return failed_with(number, Operation::kExecute, program);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  return failed_with(EPERM, Operation::kUseRootless,
                     program + " refused the ids of /etc/subuid and /etc/subgid");
}

Result<void> map_own_id(int process) {
  std::string proc = "/proc/" + std::to_string(process) + "/";
  // user_namespaces(7): without privilege a group can be mapped only where none can be dropped.
  if (auto denied = write_file(proc + "setgroups", "deny"); !denied)
    return failed_with(denied.error().number, Operation::kWriteGidMap, "", Hint::kUserNamespaceForbidden);
  if (auto written = write_file(proc + "uid_map", "0 " + std::to_string(::geteuid()) + " 1\n"); !written)
    return failed_with(written.error().number, Operation::kWriteUidMap, "", Hint::kUserNamespaceForbidden);
  if (auto written = write_file(proc + "gid_map", "0 " + std::to_string(::getegid()) + " 1\n"); !written)
    return failed_with(written.error().number, Operation::kWriteGidMap, "", Hint::kUserNamespaceForbidden);
  return {};
}

}  // namespace

std::string find_program(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::string places =
      std::string(path != nullptr ? path : "") + ":/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
  for (std::size_t at = 0; at < places.size();) {
    std::size_t end = std::min(places.find(':', at), places.size());
    std::string found = places.substr(at, end - at) + "/" + name;
    at = end + 1;
    if (found.starts_with('/') && ::access(found.c_str(), X_OK) == 0) return found;
  }
  return {};
}

Result<void> write_id_maps(int process) {
  auto name = user_name(read_file("/etc/passwd").value_or(""), ::geteuid());
  auto uids = subordinate_ranges(read_file("/etc/subuid").value_or(""), name, ::geteuid());
  auto gids = subordinate_ranges(read_file("/etc/subgid").value_or(""), name, ::geteuid());
  std::string uid_mapper = find_program("newuidmap");
  std::string gid_mapper = find_program("newgidmap");
  if (uids.empty() || gids.empty() || uid_mapper.empty() || gid_mapper.empty()) return map_own_id(process);
  FASTDOCK_CHECK(run_mapper(uid_mapper, process, ::geteuid(), uids));
  return run_mapper(gid_mapper, process, ::getegid(), gids);
}

std::uint64_t number_of(const std::string& path) {
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0 ? status.st_ino : 0;
}

Survivors find_survivors(const NamespaceNumbers& numbers) {
  Survivors found;
  std::unique_ptr<DIR, CloseDirectory> stream(::opendir("/proc"));
  while (const dirent* entry = stream ? ::readdir(stream.get()) : nullptr) {
    if (entry->d_name[0] < '1' || entry->d_name[0] > '9') continue;
    std::string directory = std::string("/proc/") + entry->d_name + "/ns/";
    if (numbers.user == 0 || number_of(directory + "user") != numbers.user ||
        number_of(directory + "mnt") != numbers.mount)
      continue;
    auto user = open_file(directory + "user", O_RDONLY);
    auto mount = open_file(directory + "mnt", O_RDONLY);
    if (!user || !mount) continue;
    found.user = std::move(*user);
    found.mount = std::move(*mount);
    if (number_of(directory + "net") != numbers.net) continue;
    if (auto net = open_file(directory + "net", O_RDONLY)) {
      found.net = std::move(*net);
      break;
    }
  }
  return found;
}

Result<NamespaceNumbers> read_numbers(const std::string& path) {
  FASTDOCK_TRY(std::string text, read_file(path));
  NamespaceNumbers numbers;
  if (std::sscanf(text.c_str(), "%lu %lu %lu", &numbers.user, &numbers.mount, &numbers.net) != 3)
    return failed_with(EINVAL, Operation::kParse, path);
  return numbers;
}

Result<void> write_numbers(const std::string& path, const NamespaceNumbers& numbers) {
  FASTDOCK_TRY(Fd file, open_file(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600));
  file.reset();
  return write_file(path, std::to_string(numbers.user) + " " + std::to_string(numbers.mount) + " " +
                              std::to_string(numbers.net) + "\n");
}

}  // namespace fastdock::rootless
