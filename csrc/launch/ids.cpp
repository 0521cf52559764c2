#include "launch/ids.h"

#include <fcntl.h>
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

Result<std::unique_ptr<IdRange>> lock(const std::string& run_directory, std::uint32_t number) {
  // An open file description of its own for each range: locks of one description never exclude each other.
  FASTDOCK_TRY(Fd file, open_file(run_directory + "/ids", O_RDWR | O_CREAT, 0600));
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

Result<std::unique_ptr<IdRange>> take_ids_again(const std::string& run_directory, std::uint32_t number) {
  {
    Pool& kept = pool();
    std::scoped_lock guard(kept.mutex);
    auto& free = kept.free[run_directory];
    for (auto& range : free) {
      if (range->number() != number) continue;
      auto found = std::move(range);
      range = std::move(free.back());
      free.pop_back();
      return found;
    }
  }
  return lock(run_directory, number);
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
