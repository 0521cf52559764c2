#include "cgroup/details.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "cgroup/cgroup.h"
#include "cgroup/files.h"
#include "cgroup/parse.h"

namespace fastdock::cgroup {
namespace {

std::vector<std::uint64_t> numbers_of(std::string_view text) {
  std::vector<std::uint64_t> numbers;
  for (std::string_view word = next_word(text); !word.empty(); word = next_word(text))
    if (auto number = parse_number(word)) numbers.push_back(*number);
  return numbers;
}

// cpuacct.usage_all: "cpu user system", then a line for each processor.
void read_cpu_v1(const Files& files, Details& out) {
  out.cpu_ns = numbers_of(text_of(files, "cpuacct.usage_percpu"));
  for_each_line(text_of(files, "cpuacct.usage_all"), [&](std::string_view line) {
    auto numbers = numbers_of(line);
    if (numbers.size() != 3) return;
    out.cpu_user_ns.push_back(numbers[1]);
    out.cpu_kernel_ns.push_back(numbers[2]);
  });
}

// "0-2,7" -> 0 1 2 7
std::vector<std::uint16_t> parse_set(std::string_view text) {
  std::vector<std::uint16_t> members;
  while (!text.empty() && text.front() >= '0' && text.front() <= '9') {
    std::uint16_t first = 0;
    const char* end = std::from_chars(text.data(), text.data() + text.size(), first).ptr;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    std::uint16_t last = first;
    if (text.starts_with('-')) {
      end = std::from_chars(text.data() + 1, text.data() + text.size(), last).ptr;
      text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    }
    for (std::uint32_t member = first; member <= last; ++member)
      members.push_back(static_cast<std::uint16_t>(member));
    text.remove_prefix(text.starts_with(',') ? 1 : 0);
  }
  return members;
}

CpusetDetails read_cpuset_v1(const Files& files) {
  CpusetDetails set;
  set.cpus = parse_set(text_of(files, "cpuset.cpus"));
  set.mems = parse_set(text_of(files, "cpuset.mems"));
  set.cpu_exclusive = number_of(files, "cpuset.cpu_exclusive");
  set.mem_hardwall = number_of(files, "cpuset.mem_hardwall");
  set.mem_exclusive = number_of(files, "cpuset.mem_exclusive");
  set.memory_migrate = number_of(files, "cpuset.memory_migrate");
  set.memory_spread_page = number_of(files, "cpuset.memory_spread_page");
  set.memory_spread_slab = number_of(files, "cpuset.memory_spread_slab");
  set.memory_pressure = number_of(files, "cpuset.memory_pressure");
  set.sched_load_balance = number_of(files, "cpuset.sched_load_balance");
  const std::string level = text_of(files, "cpuset.sched_relax_domain_level");  // may be negative
  std::from_chars(level.data(), level.data() + level.size(), set.sched_relax_domain_level);
  return set;
}

CpusetDetails read_cpuset_v2(const Files& files) {
  CpusetDetails set;
  set.cpus = parse_set(text_of(files, "cpuset.cpus.effective"));
  set.mems = parse_set(text_of(files, "cpuset.mems.effective"));
  return set;
}

std::optional<MemoryCounter> counter_v1(const Files& files, const std::string& name) {
  if (!files.has(name + ".usage_in_bytes")) return std::nullopt;
  return MemoryCounter{number_of(files, name + ".limit_in_bytes"), number_of(files, name + ".usage_in_bytes"),
                       number_of(files, name + ".max_usage_in_bytes"), number_of(files, name + ".failcnt")};
}

std::vector<BlkioEntry> read_blkio(const Files& files, std::string_view file) {
  std::vector<BlkioEntry> entries;
  for_each_line(text_of(files, file), [&](std::string_view line) {
    std::string_view device = next_word(line);
    std::string_view operation = next_word(line);
    auto value = parse_number(next_word(line));
    auto colon = device.find(':');
    if (colon == std::string_view::npos || !value) return;  // "Total 0"
    BlkioEntry entry{0, 0, std::string(operation), *value};
    std::from_chars(device.data(), device.data() + colon, entry.major);
    std::from_chars(device.data() + colon + 1, device.data() + device.size(), entry.minor);
    entries.push_back(std::move(entry));
  });
  return entries;
}

}  // namespace

Result<Details> Cgroup::details() const {
  Details out;
  if (is_nowhere()) return out;
  FASTDOCK_CHECK(any_directory());
  auto with = [&](Controller controller, auto&& read) {
    std::string directory = directory_for(controller);
    if (!directory.empty()) read(Files(directory), hierarchies_->of(controller)->version == Version::kV1);
  };
  with(Controller::kCpuacct, [&](const Files& files, bool v1) {
    if (v1) read_cpu_v1(files, out);
  });
  with(Controller::kCpuset,
       [&](const Files& files, bool v1) { out.cpuset = v1 ? read_cpuset_v1(files) : read_cpuset_v2(files); });
  with(Controller::kMemory, [&](const Files& files, bool v1) {
    if (!v1) return;
    out.memory = counter_v1(files, "memory");
    out.memory_and_swap = counter_v1(files, "memory.memsw");
    out.kernel = counter_v1(files, "memory.kmem");
    out.kernel_tcp = counter_v1(files, "memory.kmem.tcp");
  });
  with(Controller::kIo, [&](const Files& files, bool v1) {
    if (!v1) return;
    out.blkio_bytes = read_blkio(files, "blkio.throttle.io_service_bytes_recursive");
    out.blkio_operations = read_blkio(files, "blkio.throttle.io_serviced_recursive");
  });
  return out;
}

}  // namespace fastdock::cgroup
