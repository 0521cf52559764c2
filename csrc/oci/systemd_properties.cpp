#include "oci/systemd_properties.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <limits>
#include <optional>

#include "cgroup/convert.h"

namespace fastdock::oci {
namespace {

constexpr std::uint64_t kInfinity = std::numeric_limits<std::uint64_t>::max();

bool is_unit_name(std::string_view name) {
  constexpr std::size_t kLongest = 255;  // UNIT_NAME_MAX
  constexpr std::string_view kLetters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@";
  return name.size() <= kLongest && name.find_first_not_of(kLetters) == std::string_view::npos;
}

// systemd.slice(5): "foo-bar.slice" is in "foo.slice", and "-.slice" is the top.
Result<std::string> expand_slice(const std::string& slice) {
  auto refused = [&] {
    return failed_with(EINVAL, Operation::kUseContainer, "linux.cgroupsPath: no slice of systemd: " + slice);
  };
  constexpr std::string_view kSuffix = ".slice";
  if (slice == "-.slice") return "";
  if (!slice.ends_with(kSuffix) || slice.size() == kSuffix.size() || !is_unit_name(slice)) return refused();
  std::string_view name = std::string_view(slice).substr(0, slice.size() - kSuffix.size());
  if (name.starts_with('-') || name.ends_with('-') || name.find("--") != std::string_view::npos)
    return refused();
  std::string path;
  for (std::size_t end = name.find('-'); end != std::string_view::npos; end = name.find('-', end + 1))
    path.append("/").append(name.substr(0, end)).append(kSuffix);
  return path + "/" + slice;
}

// -1 is no limit; 0 is none that systemd takes.
void add_number(Properties& properties, std::string_view name, std::optional<std::int64_t> value) {
  if (value && *value != 0) properties.u64(name, *value < 0 ? kInfinity : static_cast<std::uint64_t>(*value));
}

// runc's addCpuQuota: in steps of 10 ms, rounded up, as systemd has them.
void add_cpu_quota(const cgroup::Limits& limits, unsigned systemd, Properties& properties) {
  if (!limits.cpu_quota && !limits.cpu_period) return;
  constexpr std::uint64_t kDefaultPeriod = 100'000;
  constexpr std::uint64_t kSecond = 1'000'000;
  constexpr std::uint64_t kStep = 10'000;
  std::uint64_t period = limits.cpu_period.value_or(0) == 0 ? kDefaultPeriod : *limits.cpu_period;
  if (systemd >= 242 && limits.cpu_period && *limits.cpu_period != 0)
    properties.u64("CPUQuotaPeriodUSec", period);
  // The period alone does not change what a quota of before says.
  if (!limits.cpu_quota) return;
  std::uint64_t per_second = kInfinity;
  std::uint64_t product = 0;
  if (*limits.cpu_quota > 0 &&
      !__builtin_mul_overflow(static_cast<std::uint64_t>(*limits.cpu_quota), kSecond, &product))
    per_second = (product / period + kStep - 1) / kStep * kStep;
  properties.u64("CPUQuotaPerSecUSec", per_second);
}

Result<void> add_mask(std::string_view name, const std::optional<std::string>& list, Properties& properties) {
  if (!list) return {};
  auto numbers = parse_cpu_list(*list);
  constexpr int kMost = 8192;  // CPU_SETSIZE and far more than there are nodes
  if (!numbers || std::ranges::any_of(*numbers, [](int number) { return number < 0 || number >= kMost; }))
    return failed_with(EINVAL, Operation::kUseContainer, "no list of numbers: " + *list);
  std::string mask;
  for (int number : *numbers) {
    auto place = static_cast<std::size_t>(number) / 8;
    if (mask.size() <= place) mask.resize(place + 1);
    mask[place] = static_cast<char>(static_cast<unsigned char>(mask[place]) | 1U << (number % 8));
  }
  properties.bytes(name, mask);
  return {};
}

// systemd.resource-control(5), DeviceAllow=: "/dev/char/1:3", "char-1" (a whole major), "char-*".
void add_devices(const std::vector<cgroup::DeviceRule>& rules, Properties& properties) {
  if (rules.empty()) return;
  std::vector<std::pair<std::string, std::string>> allowed;
  bool everything = true;
  for (const cgroup::DeviceRule& rule : rules) {
    if (rule.type == 'a' || (!rule.major && !rule.minor && !rule.allow && rule.access.size() == 3)) {
      if (rule.type == 'a') everything = rule.allow;
      allowed.clear();
      continue;
    }
    // What one device is denied of is in the kernel's rules, which we write; systemd's list cannot say it.
    if (!rule.allow) continue;
    const std::string kind = rule.type == 'c' ? "char" : "block";
    std::string which = kind + "-*";
    if (rule.major && rule.minor)
      which = "/dev/" + kind + "/" + std::to_string(*rule.major) + ":" + std::to_string(*rule.minor);
    else if (rule.major)
      which = kind + "-" + std::to_string(*rule.major);
    // A minor of any major: no word for that; more is allowed here, and the kernel's rules decide.
    allowed.emplace_back(std::move(which), rule.access);
  }
  if (everything) allowed.clear();
  properties.text("DevicePolicy", everything ? "auto" : "strict");
  properties.device_list("DeviceAllow", allowed);
}

void add_v1(const cgroup::Limits& limits, Properties& properties) {
  add_number(properties, "MemoryLimit", limits.memory);
  if (limits.cpu_shares && *limits.cpu_shares != 0)
    properties.u64("CPUShares", std::clamp<std::uint64_t>(*limits.cpu_shares, 2, 262144));
  if (limits.blkio_weight) properties.u64("BlockIOWeight", *limits.blkio_weight);
}

std::optional<std::uint64_t> parse_limit(std::string_view text) {
  if (text == "max") return kInfinity;
  std::uint64_t number = 0;
  auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (problem != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// What of linux.resources.unified systemd has words for; the rest it does not touch.
Result<void> add_unified(const cgroup::Limits& limits, unsigned systemd, Properties& properties) {
  constexpr auto kNumbers = std::to_array<std::pair<std::string_view, std::string_view>>({
      {"cpu.weight", "CPUWeight"},
      {"memory.high", "MemoryHigh"},
      {"memory.low", "MemoryLow"},
      {"memory.max", "MemoryMax"},
      {"memory.min", "MemoryMin"},
      {"memory.swap.max", "MemorySwapMax"},
      {"pids.max", "TasksMax"},
  });
  for (const auto& [file, property] : kNumbers)
    if (auto found = limits.unified.find(std::string(file)); found != limits.unified.end())
      if (auto number = parse_limit(found->second); number && *number != 0) properties.u64(property, *number);
  if (systemd < 244) return {};
  if (auto cpus = limits.unified.find("cpuset.cpus"); cpus != limits.unified.end())
    FASTDOCK_CHECK(add_mask("AllowedCPUs", cpus->second, properties));
  if (auto nodes = limits.unified.find("cpuset.mems"); nodes != limits.unified.end())
    FASTDOCK_CHECK(add_mask("AllowedMemoryNodes", nodes->second, properties));
  return {};
}

Result<void> add_v2(const cgroup::Limits& limits, unsigned systemd, Properties& properties) {
  add_number(properties, "MemoryMax", limits.memory);
  add_number(properties, "MemoryLow", limits.memory_reservation);
  if (limits.memory_swap) {
    FASTDOCK_TRY(auto swap, cgroup::swap_alone(limits.memory.value_or(-1), *limits.memory_swap));
    properties.u64("MemorySwapMax", swap < 0 ? kInfinity : static_cast<std::uint64_t>(swap));
  }
  if (limits.cpu_shares && *limits.cpu_shares != 0 && limits.cpu_idle.value_or(0) == 0)
    properties.u64("CPUWeight", cgroup::cpu_weight(*limits.cpu_shares));
  if (limits.blkio_weight) properties.u64("IOWeight", cgroup::io_weight(*limits.blkio_weight));
  return add_unified(limits, systemd, properties);
}

}  // namespace

Result<ScopePlace> scope_place(const std::string& cgroups_path, const std::string& id,
                               const char* default_slice) {
  ScopePlace place{"", "fastdock-" + id + ".scope", ""};
  if (!cgroups_path.empty()) {
    auto first = cgroups_path.find(':');
    auto second = first == std::string::npos ? first : cgroups_path.find(':', first + 1);
    if (second == std::string::npos || cgroups_path.find(':', second + 1) != std::string::npos)
      return failed_with(
          EINVAL, Operation::kUseContainer,
          "linux.cgroupsPath must be slice:prefix:name with --systemd-cgroup, not " + cgroups_path);
    place.slice = cgroups_path.substr(0, first);
    std::string name = cgroups_path.substr(second + 1);
    if (name.empty() || name.ends_with(".slice"))
      return failed_with(EINVAL, Operation::kUseContainer,
                         "linux.cgroupsPath: a container is a scope of systemd, not " + cgroups_path);
    place.unit = cgroups_path.substr(first + 1, second - first - 1) + "-" + name + ".scope";
  }
  if (place.slice.empty()) place.slice = default_slice;
  if (!is_unit_name(place.unit))
    return failed_with(EINVAL, Operation::kUseContainer, "not a name of a unit of systemd: " + place.unit);
  FASTDOCK_TRY(place.cgroup, expand_slice(place.slice));
  place.cgroup += "/" + place.unit;
  return place;
}

dbus::Writer& Properties::value(std::string_view name, std::string_view type) {
  return writer_.structure().text(name).signature(type);
}

void Properties::text(std::string_view name, std::string_view value_) { value(name, "s").text(value_); }
void Properties::boolean(std::string_view name, bool value_) { value(name, "b").boolean(value_); }
void Properties::u64(std::string_view name, std::uint64_t value_) { value(name, "t").u64(value_); }
void Properties::bytes(std::string_view name, std::string_view value_) {
  value(name, "ay").byte_array(value_);
}

void Properties::process_ids(std::string_view name, const std::vector<std::uint32_t>& values) {
  auto array = value(name, "au").open_array(4);
  for (std::uint32_t each : values) writer_.u32(each);
  writer_.close_array(array);
}

void Properties::device_list(std::string_view name,
                             const std::vector<std::pair<std::string, std::string>>& values) {
  auto array = value(name, "a(ss)").open_array(8);
  for (const auto& [which, access] : values) writer_.structure().text(which).text(access);
  writer_.close_array(array);
}

void Properties::append_to(dbus::Writer& writer) const {
  auto array = writer.open_array(8);
  writer.append(writer_);
  writer.close_array(array);
}

Result<void> add_limits(const cgroup::Limits& limits, cgroup::Version version, unsigned systemd,
                        Properties& properties) {
  add_devices(limits.devices, properties);
  add_cpu_quota(limits, systemd, properties);
  add_number(properties, "TasksMax", limits.pids);
  if (systemd >= 244) {
    FASTDOCK_CHECK(add_mask("AllowedCPUs", limits.cpuset_cpus, properties));
    FASTDOCK_CHECK(add_mask("AllowedMemoryNodes", limits.cpuset_mems, properties));
  }
  if (version == cgroup::Version::kV2) return add_v2(limits, systemd, properties);
  add_v1(limits, properties);
  return {};
}

}  // namespace fastdock::oci
