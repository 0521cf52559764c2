#include "launch/ids.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <map>
#include <mutex>
#include <vector>

#include "base/path.h"

namespace fastdock::launch {
namespace {

// Enough for the bursts of one process; the rest is for others.
constexpr std::size_t kMaximumKept = 64;

struct Pool {
  std::mutex mutex;
  std::map<std::string, std::vector<std::unique_ptr<IdRange>>> free;
  pid_t pid = ::getpid();
};

Pool& pool() {
  static auto* instance = new Pool;
  // After fork the parent has these ranges too.
  if (instance->pid != ::getpid()) instance->free.clear(), instance->pid = ::getpid();
  return *instance;
}

// Each child of a process closes its copies of all descriptors, and each close(2) looks through all locks of
// its file (fs/locks.c, locks_remove_posix).  With one file for all ranges that was a fifth of a start beside
// 1,000 containers; spread over these a file has 16 of their locks.
constexpr std::uint32_t kLockFiles = 64;

std::string lock_path(const std::string& run_directory, std::uint32_t file) {
  return run_directory + "/id-locks/" + std::to_string(file);
}

// All at once: what a run directory holds does not depend on which ranges were used.
Result<void> make_lock_files(const std::string& run_directory) {
  if (::mkdir((run_directory + "/id-locks").c_str(), 0700) != 0 && errno != EEXIST)
    return failed(Operation::kCreateDirectory, run_directory + "/id-locks");
  for (std::uint32_t file = 0; file < kLockFiles; ++file)
    if (auto made = open_file(lock_path(run_directory, file), O_RDWR | O_CREAT, 0600); !made)
      return std::unexpected(made.error());
  return {};
}

// An open file description of its own for each range: locks of one description never exclude each other.
Result<Fd> open_lock_file(const std::string& run_directory, std::uint32_t number) {
  std::string path = lock_path(run_directory, number % kLockFiles);
  auto file = open_file(path, O_RDWR, 0);
  if (file || file.error().number != ENOENT) return file;
  FASTDOCK_CHECK(make_lock_files(run_directory));
  return open_file(path, O_RDWR, 0);
}

Result<std::unique_ptr<IdRange>> lock(const std::string& run_directory, std::uint32_t number) {
  FASTDOCK_TRY(Fd file, open_lock_file(run_directory, number));
  struct flock range{};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  range.l_start = number;
  range.l_len = 1;
  if (::fcntl(file.get(), F_OFD_SETLK, &range) != 0)
    return failed_with(errno == EAGAIN || errno == EACCES ? EBUSY : errno, Operation::kReserveIds,
                       std::to_string(number));
  return std::make_unique<IdRange>(number, std::move(file));
}

}  // namespace

Result<std::unique_ptr<IdRange>> take_ids(const std::string& run_directory,
                                          const std::string& reserved_directory) {
  {
    Pool& kept = pool();
    std::scoped_lock guard(kept.mutex);
    auto& free = kept.free[run_directory];
    if (!free.empty()) {
      auto range = std::move(free.back());
      free.pop_back();
      return range;
    }
  }
  // Processes begin at different places, so that they seldom meet; and go on where they found the last one,
  // or each of a thousand containers would try the ranges of all before it.
  static std::atomic<std::uint32_t> passed;
  auto start = static_cast<std::uint32_t>(::getpid()) * 61 + passed;
  for (std::uint32_t i = 0; i < kRanges; ++i) {
    std::uint32_t number = (start + i) % kRanges;
    auto range = lock(run_directory, number);
    if (!range && range.error().number == EBUSY) continue;
    if (!range) return range;
    if (::access((reserved_directory + "/" + std::to_string(number)).c_str(), F_OK) == 0) continue;
    passed += i;
    return range;
  }
  return failed_with(EAGAIN, Operation::kReserveIds, run_directory, Hint::kNoIdsLeft);
}

void give_back(const std::string& run_directory, std::unique_ptr<IdRange> range) {
  Pool& kept = pool();
  std::scoped_lock guard(kept.mutex);
  auto& free = kept.free[run_directory];
  if (free.size() < kMaximumKept) free.push_back(std::move(range));
}

void release_kept_ids() {
  Pool& kept = pool();
  std::scoped_lock guard(kept.mutex);
  kept.free.clear();
}

}  // namespace fastdock::launch
