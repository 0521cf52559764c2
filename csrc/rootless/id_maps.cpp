#include "rootless/id_maps.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "base/path.h"
#include "rootless/subordinate.h"

namespace fastdock::rootless {
namespace {

// newuidmap or newgidmap; they say on stderr why they refuse.
Result<void> run_mapper(const std::string& name, int process, const std::vector<IdMap>& maps) {
  std::string program = find_program(name);
  if (program.empty())
    return failed_with(ENOENT, Operation::kUseRootless,
                       name + " is missing (Debian: apt-get install uidmap)");
  std::vector<std::string> words = {program, std::to_string(process)};
  for (const IdMap& map : maps)
    words.insert(words.end(),
                 {std::to_string(map.inside), std::to_string(map.outside), std::to_string(map.count)});
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
                     program + " refused these ids: see /etc/subuid and /etc/subgid");
}

bool is_own(const std::vector<IdMap>& maps, std::uint32_t id) {
  return maps.size() == 1 && maps[0].outside == id && maps[0].count == 1;
}

Result<void> write_map(const std::string& file, const IdMap& map, Operation operation) {
  std::string text = std::to_string(map.inside) + ' ' + std::to_string(map.outside) + " 1\n";
  if (auto written = write_file(file, text); !written)
    return failed_with(written.error().number, operation, "", Hint::kUserNamespaceForbidden);
  return {};
}

Result<void> map_own_ids(const std::string& proc, const UserMaps& maps) {
  // A group can be mapped only where none can be dropped.
  if (auto denied = write_file(proc + "setgroups", "deny"); !denied)
    return failed_with(denied.error().number, Operation::kWriteGidMap, "", Hint::kUserNamespaceForbidden);
  FASTDOCK_CHECK(write_map(proc + "uid_map", maps.uids[0], Operation::kWriteUidMap));
  return write_map(proc + "gid_map", maps.gids[0], Operation::kWriteGidMap);
}

std::vector<IdMap> own_and_ranges(std::uint32_t own, const std::vector<IdRange>& ranges) {
  std::vector<IdMap> maps = {{0, own, 1}};
  std::uint32_t inside = 1;
  for (const IdRange& range : ranges) {
    maps.push_back({inside, range.first, range.count});
    inside += range.count;
  }
  return maps;
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

UserMaps own_maps() {
  auto name = user_name(read_file("/etc/passwd").value_or(""), ::geteuid());
  auto uids = subordinate_ranges(read_file("/etc/subuid").value_or(""), name, ::geteuid());
  auto gids = subordinate_ranges(read_file("/etc/subgid").value_or(""), name, ::geteuid());
  if (uids.empty() || gids.empty() || find_program("newuidmap").empty() || find_program("newgidmap").empty())
    uids.clear(), gids.clear();
  return {own_and_ranges(::geteuid(), uids), own_and_ranges(::getegid(), gids)};
}

Result<void> map_ids(int process, const UserMaps& maps) {
  std::string proc = "/proc/" + std::to_string(process) + "/";
  if (is_own(maps.uids, ::geteuid()) && is_own(maps.gids, ::getegid())) return map_own_ids(proc, maps);
  FASTDOCK_CHECK(run_mapper("newuidmap", process, maps.uids));
  return run_mapper("newgidmap", process, maps.gids);
}

}  // namespace fastdock::rootless
