#include "cgroup/convert.h"

#include <algorithm>
#include <cerrno>
#include <cmath>

namespace fastdock::cgroup {

// The formula of runc >= 1.3.2 and crun >= 1.23 (opencontainers/cgroups pull request 20, containers/crun
// 1767): a quadratic through minimum, default and maximum, so that 1024 shares are weight 100.  The
// straight line used before made them 39.
std::uint64_t cpu_weight(std::uint64_t shares) {
  if (shares <= 2) return 1;
  if (shares >= 262144) return 10000;
  double l = std::log2(static_cast<double>(shares));
  double exponent = (l * l + 125 * l) / 612.0 - 7.0 / 34.0;
  return static_cast<std::uint64_t>(std::ceil(std::pow(10, exponent)));
}

// runc's and crun's straight line (OCI runtime-spec, config-linux, "Block IO"; crun.1, "cgroup v2").
std::uint64_t io_weight(std::uint16_t weight) {
  std::uint64_t clamped = std::clamp<std::uint64_t>(weight, 10, 1000);
  return 1 + (clamped - 10) * 9999 / 990;
}

Result<std::int64_t> swap_alone(std::int64_t memory, std::int64_t memory_and_swap) {
  if (memory_and_swap < 0) return -1;
  if (memory < 0) return memory_and_swap;  // as runc does: without a memory limit the value is taken as swap
  if (memory_and_swap < memory)
    return failed_with(EINVAL, Operation::kSetCgroupLimit, "memory_swap", Hint::kSwapBelowMemory);
  return memory_and_swap - memory;
}

std::string number_or(std::int64_t value, const char* unlimited) {
  return value < 0 ? std::string(unlimited) : std::to_string(value);
}

}  // namespace fastdock::cgroup
