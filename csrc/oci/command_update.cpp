// update.
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>

#include "cgroup/cgroup.h"
#include "oci/context.h"
#include "oci/state.h"
#include "oci/systemd.h"

namespace fastdock::oci {
namespace {

constexpr auto kUpdateFlags = std::to_array<Flag>({
    {"resources", 'r', true, "file with linux.resources as JSON; - is standard input"},
    {"blkio-weight", 0, true, "10 to 1000"},
    {"cpu-period", 0, true, "microseconds"},
    {"cpu-quota", 0, true, "microseconds per period"},
    {"cpu-burst", 0, true, "microseconds"},
    {"cpu-share", 0, true, "2 to 262144"},
    {"cpu-rt-period", 0, true, "microseconds"},
    {"cpu-rt-runtime", 0, true, "microseconds"},
    {"cpu-idle", 0, true, "0 or 1"},
    {"cpuset-cpus", 0, true, "such as 0-2,7"},
    {"cpuset-mems", 0, true, "such as 0"},
    {"kernel-memory", 0, true, "bytes"},
    {"kernel-memory-tcp", 0, true, "bytes"},
    {"memory", 0, true, "bytes"},
    {"memory-reservation", 0, true, "bytes"},
    {"memory-swap", 0, true, "bytes of memory and swap together; -1: no limit"},
    {"pids-limit", 0, true, "how many; -1: no limit"},
    {"l3-cache-schema", 0, true, "not supported"},
    {"mem-bw-schema", 0, true, "not supported"},
});

template <class T>
Result<void> read_number(const Arguments& arguments, std::string_view flag, std::optional<T>& target) {
  FASTDOCK_TRY(auto number, arguments.number(flag));
  if (!number) return {};
  if (!std::in_range<T>(*number))
    return failed_with(ERANGE, Operation::kUseContainer, "--" + std::string(flag) + " is out of range");
  target = static_cast<T>(*number);
  return {};
}

// As docker/go-units reads them: "50M", "1g", "512kb"; binary, and -1 for no limit.
Result<void> read_size(const Arguments& arguments, std::string_view flag,
                       std::optional<std::int64_t>& target) {
  auto text = arguments.value(flag);
  if (!text) return {};
  std::string_view word = *text;
  std::int64_t number = 0;
  auto [end, problem] = std::from_chars(word.data(), word.data() + word.size(), number);
  std::string unit(end, word.data() + word.size());
  for (char& c : unit) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  if (unit.size() > 1 && unit.ends_with("ib")) unit.resize(unit.size() - 2);
  if (unit.size() > 1 && unit.ends_with('b')) unit.pop_back();
  constexpr std::string_view kUnits = "bkmgtp";
  auto power = unit.empty() ? 0 : kUnits.find(unit);
  std::int64_t bytes = 0;
  if (problem != std::errc{} || power == std::string_view::npos || unit.size() > 1 ||
      __builtin_mul_overflow(number, std::int64_t{1} << (10 * power), &bytes))
    return failed_with(EINVAL, Operation::kUseContainer,
                       "--" + std::string(flag) + " must be bytes, such as 50M, not \"" + *text + "\"");
  target = bytes;
  return {};
}

Result<void> read_flags(const Arguments& arguments, cgroup::Limits& limits) {
  FASTDOCK_CHECK(read_number(arguments, "blkio-weight", limits.blkio_weight));
  FASTDOCK_CHECK(read_number(arguments, "cpu-period", limits.cpu_period));
  FASTDOCK_CHECK(read_number(arguments, "cpu-quota", limits.cpu_quota));
  FASTDOCK_CHECK(read_number(arguments, "cpu-burst", limits.cpu_burst));
  FASTDOCK_CHECK(read_number(arguments, "cpu-share", limits.cpu_shares));
  FASTDOCK_CHECK(read_number(arguments, "cpu-rt-period", limits.cpu_rt_period));
  FASTDOCK_CHECK(read_number(arguments, "cpu-rt-runtime", limits.cpu_rt_runtime));
  FASTDOCK_CHECK(read_number(arguments, "cpu-idle", limits.cpu_idle));
  FASTDOCK_CHECK(read_size(arguments, "kernel-memory", limits.kernel_memory));
  FASTDOCK_CHECK(read_size(arguments, "kernel-memory-tcp", limits.kernel_memory_tcp));
  FASTDOCK_CHECK(read_size(arguments, "memory", limits.memory));
  FASTDOCK_CHECK(read_size(arguments, "memory-reservation", limits.memory_reservation));
  FASTDOCK_CHECK(read_size(arguments, "memory-swap", limits.memory_swap));
  FASTDOCK_CHECK(read_number(arguments, "pids-limit", limits.pids));
  limits.pids = pids_limit(limits.pids);
  if (auto cpus = arguments.value("cpuset-cpus"); cpus && !cpus->empty())
    limits.cpuset_cpus = std::move(cpus);
  if (auto mems = arguments.value("cpuset-mems"); mems && !mems->empty())
    limits.cpuset_mems = std::move(mems);
  return {};
}

}  // namespace

Result<int> command_update(const Context& context, Words words) {
  FASTDOCK_TRY(Arguments arguments, parse_flags(kUpdateFlags, words, FlagsEnd::kNever, "update"));
  FASTDOCK_CHECK(expect_arguments(arguments, 1, "update [flags] <container-id>"));
  if (arguments.has("l3-cache-schema") || arguments.has("mem-bw-schema"))
    return failed_with(ENOTSUP, Operation::kUseContainer, "Intel RDT is not supported by fastdock-oci");
  FASTDOCK_TRY(Container container, Container::open(context.root, arguments.positional.front()));
  FASTDOCK_CHECK(container.lock());
  if (container.status() == Status::kStopped)
    return failed_with(ESRCH, Operation::kUseContainer, "container not running");
  cgroup::Limits limits;
  if (auto file = arguments.value("resources")) {
    FASTDOCK_TRY(auto document,
                 *file == "-" ? parse_descriptor(STDIN_FILENO, "resources") : parse_file(*file));
    read_resources(document->root(), limits);
    FASTDOCK_CHECK(document->problem());
    // As runc: update does not touch the devices unless they are given.
    if (!limits.devices.empty()) allow_default_devices(limits);
  } else {
    FASTDOCK_CHECK(read_flags(arguments, limits));
  }
  FASTDOCK_TRY(const cgroup::Hierarchies* hierarchies, cgroup::Hierarchies::machine());
  FASTDOCK_TRY(auto group, cgroup::Cgroup::open(*hierarchies, container.state.cgroup));
  // systemd first, as runc: what it refuses changes nothing.
  if (const std::string& unit = container.state.systemd_unit; !unit.empty())
    FASTDOCK_CHECK(update_scope(unit, limits, hierarchies->version()));
  FASTDOCK_CHECK(group.update(limits));
  for (const std::string& warning : group.warnings()) context.warn(warning);
  return 0;
}

}  // namespace fastdock::oci
