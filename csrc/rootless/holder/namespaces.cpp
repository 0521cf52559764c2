#include "rootless/holder/namespaces.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "base/directory_stream.h"
#include "base/path.h"

namespace fastdock::rootless {
namespace {}  // namespace

std::uint64_t number_of(const std::string& path) {
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0 ? status.st_ino : 0;
}

Survivors find_survivors(const NamespaceNumbers& numbers) {
  Survivors found;
  DirectoryStream stream(::opendir("/proc"));
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
