// Reading what a cgroup has used.  A controller that the cgroup is not in leaves its figures at zero.
#include "cgroup/statistics.h"

#include <algorithm>
#include <string_view>

#include "base/directory_stream.h"
#include "cgroup/cgroup.h"
#include "cgroup/files.h"
#include "cgroup/parse.h"

namespace fastdock::cgroup {
namespace {

// v1 shows "no limit" as the largest multiple of a page in 63 bits (PAGE_COUNTER_MAX).
std::uint64_t limit_v1(const Files& files, std::string_view file) {
  std::uint64_t limit = number_of(files, file, kNoLimit);
  return limit >= 0x7fffffffffff0000 ? kNoLimit : limit;
}

// v1's total is exact, its parts are counted in ticks.  v2 shows the total divided in their proportion, and
// so do we (kernel/sched/cputime.c, cputime_adjust): the parts add up, also for a process of a millisecond.
void divide_cpu_time(std::uint64_t user, std::uint64_t system, Statistics& out) {
  const std::uint64_t whole = out.usage.cpu_ns;
  double share = system == 0 ? 1.0 : static_cast<double>(user) / static_cast<double>(user + system);
  out.cpu_user_ns = std::min(whole, static_cast<std::uint64_t>(static_cast<double>(whole) * share));
  out.cpu_system_ns = whole - out.cpu_user_ns;
}

void read_cpu_parts(const Files& files, bool v1, Statistics& out) {
  if (v1) {
    divide_cpu_time(number_of(files, "cpuacct.usage_user"), number_of(files, "cpuacct.usage_sys"), out);
    return;
  }
  Values stat = parse_flat_keyed(text_of(files, "cpu.stat"));
  divide_cpu_time(value_of(stat, "user_usec"), value_of(stat, "system_usec"), out);
}

void read_memory_usage(const Files& files, bool v1, Usage& usage) {
  usage.memory_peak = parse_number(text_of(files, v1 ? "memory.max_usage_in_bytes" : "memory.peak"));
  usage.oom_kills =
      value_of(parse_flat_keyed(text_of(files, v1 ? "memory.oom_control" : "memory.events")), "oom_kill");
}

void read_memory_v1(const Files& files, Statistics& out) {
  out.memory_current = number_of(files, "memory.usage_in_bytes");
  out.memory_limit = limit_v1(files, "memory.limit_in_bytes");
  // Where both limits are equal, it is the one of memory and swap together that is hit first.
  out.memory_limit_hits = number_of(files, "memory.failcnt") + number_of(files, "memory.memsw.failcnt");
  out.memory_kernel = number_of(files, "memory.kmem.usage_in_bytes");
  out.memory_stat = parse_flat_keyed(text_of(files, "memory.stat"));
  out.memory_anon = value_of(out.memory_stat, "total_rss");
  out.memory_cache = value_of(out.memory_stat, "total_cache");
  out.memory_inactive_file = value_of(out.memory_stat, "total_inactive_file");
  out.swap_current = value_of(out.memory_stat, "total_swap");
  std::uint64_t both = limit_v1(files, "memory.memsw.limit_in_bytes");
  if (both != kNoLimit && out.memory_limit != kNoLimit) out.swap_limit = both - out.memory_limit;
}

void read_memory_v2(const Files& files, Statistics& out) {
  out.memory_current = number_of(files, "memory.current");
  out.memory_limit = number_of(files, "memory.max", kNoLimit);
  out.memory_limit_hits = value_of(parse_flat_keyed(text_of(files, "memory.events")), "max");
  out.memory_stat = parse_flat_keyed(text_of(files, "memory.stat"));
  out.memory_anon = value_of(out.memory_stat, "anon");
  out.memory_cache = value_of(out.memory_stat, "file");
  out.memory_inactive_file = value_of(out.memory_stat, "inactive_file");
  out.memory_kernel = value_of(out.memory_stat, "kernel");
  out.swap_current = number_of(files, "memory.swap.current");
  out.swap_limit = number_of(files, "memory.swap.max", kNoLimit);
}

void read_blkio(const Files& files, std::vector<DeviceIo>& devices) {
  parse_blkio(text_of(files, "blkio.throttle.io_service_bytes_recursive"), true, devices);
  parse_blkio(text_of(files, "blkio.throttle.io_serviced_recursive"), false, devices);
}

// The page sizes are in the files' names: hugetlb.2MB.current.
void read_hugetlb(const Files& files, bool v1, std::vector<HugetlbUse>& uses) {
  std::string_view suffix = v1 ? ".usage_in_bytes" : ".current";
  DirectoryStream stream(::opendir(files.directory().c_str()));
  while (const dirent* entry = stream ? ::readdir(stream.get()) : nullptr) {
    std::string_view file = entry->d_name;
    if (!file.starts_with("hugetlb.") || !file.ends_with(suffix) || file.size() < 9 + suffix.size()) continue;
    std::string size(file.substr(8, file.size() - 8 - suffix.size()));
    if (size.find('.') != std::string::npos) continue;  // .rsvd
    std::string prefix = "hugetlb." + size;
    HugetlbUse use{size, number_of(files, file), 0, 0};
    use.limit =
        v1 ? limit_v1(files, prefix + ".limit_in_bytes") : number_of(files, prefix + ".max", kNoLimit);
    use.failures = v1 ? number_of(files, prefix + ".failcnt")
                      : value_of(parse_flat_keyed(text_of(files, prefix + ".events")), "max");
    uses.push_back(std::move(use));
  }
}

}  // namespace

Result<Usage> Cgroup::usage() const {
  if (is_nowhere()) return Usage{};
  FASTDOCK_CHECK(any_directory());
  Usage usage;
  if (std::string directory = directory_for(Controller::kCpuacct); !directory.empty()) {
    Files files(directory);
    usage.cpu_ns = hierarchies_->of(Controller::kCpuacct)->version == Version::kV1
                       ? number_of(files, "cpuacct.usage")
                       : value_of(parse_flat_keyed(text_of(files, "cpu.stat")), "usage_usec") * 1000;
  }
  if (std::string directory = directory_for(Controller::kMemory); !directory.empty())
    read_memory_usage(Files(directory), hierarchies_->of(Controller::kMemory)->version == Version::kV1,
                      usage);
  return usage;
}

Result<Statistics> Cgroup::statistics() const {
  Statistics out;
  // Calls read(files, v1) where the cgroup is in the controller's hierarchy.
  auto with = [&](Controller controller, auto&& read) {
    std::string directory = directory_for(controller);
    if (!directory.empty()) read(Files(directory), hierarchies_->of(controller)->version == Version::kV1);
  };
  with(Controller::kCpu, [&](const Files& files, bool v1) {
    Values stat = parse_flat_keyed(text_of(files, "cpu.stat"));
    out.periods = value_of(stat, "nr_periods");
    out.throttled_periods = value_of(stat, "nr_throttled");
    out.throttled_ns = v1 ? value_of(stat, "throttled_time") : value_of(stat, "throttled_usec") * 1000;
  });
  with(Controller::kMemory,
       [&](const Files& files, bool v1) { v1 ? read_memory_v1(files, out) : read_memory_v2(files, out); });
  with(Controller::kPids, [&](const Files& files, bool) {
    out.pids_current = number_of(files, "pids.current");
    out.pids_limit = number_of(files, "pids.max", kNoLimit);
  });
  with(Controller::kIo, [&](const Files& files, bool v1) {
    if (v1)
      read_blkio(files, out.io);
    else
      out.io = parse_io_stat(text_of(files, "io.stat"));
  });
  with(Controller::kHugetlb, [&](const Files& files, bool v1) { read_hugetlb(files, v1, out.hugetlb); });
  if (std::string directory = unified_directory(); !directory.empty()) {
    Files files(directory);
    out.cpu_pressure = parse_pressure(text_of(files, "cpu.pressure"));
    out.memory_pressure = parse_pressure(text_of(files, "memory.pressure"));
    out.io_pressure = parse_pressure(text_of(files, "io.pressure"));
  }
  // Last: a peak that is read before the present use can be below it.
  FASTDOCK_TRY(out.usage, usage());
  with(Controller::kCpuacct, [&](const Files& files, bool v1) { read_cpu_parts(files, v1, out); });
  return out;
}

}  // namespace fastdock::cgroup
