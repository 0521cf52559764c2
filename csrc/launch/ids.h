// Ranges of 65,536 user ids for containers: which container has which, without a daemon that knows.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/fd.h"

namespace fastdock::launch {

// The ids from here on belong to no user: systemd's table of uid ranges (systemd.io/UIDS-GIDS) leaves
// 1879048192…2147352575 unassigned, above containers of systemd-nspawn and below the 2^31 that some
// programs cannot read.
inline constexpr std::uint32_t kFirstId = 0x70000000;
inline constexpr std::uint32_t kIdsPerRange = 65536;
inline constexpr std::uint32_t kRanges = (0x7FFE0000U - kFirstId) / kIdsPerRange;

// A range in use.  It is held by a lock on a byte of a file, which the kernel lets go when the last process
// that has the descriptor is gone: nothing to clean up after a SIGKILL.
class IdRange {
 public:
  IdRange(std::uint32_t number, Fd lock) : number_(number), lock_(std::move(lock)) {}
  [[nodiscard]] std::uint32_t number() const { return number_; }
  [[nodiscard]] std::uint32_t first_id() const { return kFirstId + number_ * kIdsPerRange; }

 private:
  std::uint32_t number_;
  Fd lock_;
};

// A free range; one that this process used before if it can, because the mounts that map it are kept
// (rootfs/prepare.cpp).  `run_directory` holds the lock files, `id-locks/`.  `reserved_directory`: ranges
// with a file of their number there belong to a container that is not running now (its files have these ids).
Result<std::unique_ptr<IdRange>> take_ids(const std::string& run_directory,
                                          const std::string& reserved_directory);

// Back to this process's free ranges; another process gets it when this one ends.
void give_back(const std::string& run_directory, std::unique_ptr<IdRange> range);

// Lets go of this process's free ranges.
void release_kept_ids();

}  // namespace fastdock::launch
