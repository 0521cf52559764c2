// "process" of config.json.
#include <linux/sched.h>
#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <numeric>
#include <ranges>
#include <unordered_set>

#include "launch/capabilities.h"
#include "oci/config.h"

namespace fastdock::oci {
namespace {

using launch::LaunchPlan;

template <class Value>
struct Word {
  std::string_view word;
  Value value;
};

template <class Value, std::size_t count>
std::optional<Value> look_up(const std::array<Word<Value>, count>& table, std::string_view word) {
  for (const auto& entry : table)
    if (entry.word == word) return entry.value;
  return std::nullopt;
}

constexpr auto kLimits = std::to_array<Word<int>>({
    {"RLIMIT_AS", RLIMIT_AS},
    {"RLIMIT_CORE", RLIMIT_CORE},
    {"RLIMIT_CPU", RLIMIT_CPU},
    {"RLIMIT_DATA", RLIMIT_DATA},
    {"RLIMIT_FSIZE", RLIMIT_FSIZE},
    {"RLIMIT_LOCKS", RLIMIT_LOCKS},
    {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
    {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE},
    {"RLIMIT_NICE", RLIMIT_NICE},
    {"RLIMIT_NOFILE", RLIMIT_NOFILE},
    {"RLIMIT_NPROC", RLIMIT_NPROC},
    {"RLIMIT_RSS", RLIMIT_RSS},
    {"RLIMIT_RTPRIO", RLIMIT_RTPRIO},
    {"RLIMIT_RTTIME", RLIMIT_RTTIME},
    {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
    {"RLIMIT_STACK", RLIMIT_STACK},
});

constexpr auto kPolicies = std::to_array<Word<std::uint32_t>>({
    {"SCHED_OTHER", SCHED_OTHER},
    {"SCHED_FIFO", SCHED_FIFO},
    {"SCHED_RR", SCHED_RR},
    {"SCHED_BATCH", SCHED_BATCH},
    {"SCHED_ISO", 4},
    {"SCHED_IDLE", SCHED_IDLE},
    {"SCHED_DEADLINE", 6},
});

constexpr auto kSchedulerFlags = std::to_array<Word<std::uint64_t>>({
    {"SCHED_FLAG_RESET_ON_FORK", 0x01},
    {"SCHED_FLAG_RECLAIM", 0x02},
    {"SCHED_FLAG_DL_OVERRUN", 0x04},
    {"SCHED_FLAG_KEEP_POLICY", 0x08},
    {"SCHED_FLAG_KEEP_PARAMS", 0x10},
    {"SCHED_FLAG_UTIL_CLAMP_MIN", 0x20},
    {"SCHED_FLAG_UTIL_CLAMP_MAX", 0x40},
});

// ioprio_set(2): the class is in the upper three of 16 bits.
constexpr auto kIoClasses = std::to_array<Word<int>>({
    {"IOPRIO_CLASS_RT", 1},
    {"IOPRIO_CLASS_BE", 2},
    {"IOPRIO_CLASS_IDLE", 3},
});

void read_user(Json user, launch::User& target) {
  user["uid"].read(target.uid);
  user["gid"].read(target.gid);
  user["additionalGids"].read(target.groups);
  // setresuid(2): -1 is "leave as it is", which here is root (CVE-2024-40635).
  if (target.uid == ~0U) user["uid"].refuse("is no user id");
  if (target.gid == ~0U) user["gid"].refuse("is no group id");
  for (gid_t group : target.groups)
    if (group == ~0U) user["additionalGids"].refuse("has a member that is no group id");
  std::optional<std::uint32_t> umask;
  user["umask"].read(umask);
  if (umask && *umask > 0777) user["umask"].refuse("is no umask");
  if (umask) target.umask = static_cast<mode_t>(*umask);
}

std::uint64_t read_capability_set(Json names, std::vector<std::string>& warnings) {
  std::uint64_t set = 0;
  names.each([&](Json entry) {
    std::string name;
    entry.read(name);
    if (auto number = launch::capability_number(name); number && name.starts_with("CAP_")) {
      set |= launch::capability_bit(*number);
    } else {
      // config.md: a value that the kernel does not know is logged as a warning.
      warnings.push_back("unknown capability ignored: " + name);
    }
  });
  return set;
}

// capabilities(7): the kernel raises nothing that is not permitted and inheritable.  The `spec` of older
// runcs asks for such, and runc goes on without; config.md: what cannot be granted is logged as a warning.
void drop_ambient_that_cannot_be(launch::Capabilities& sets, std::vector<std::string>& warnings) {
  const std::uint64_t possible = sets.permitted & sets.inheritable;
  for (const std::string& name : launch::capability_names(sets.ambient & ~possible))
    warnings.push_back("ambient capability ignored that is not permitted and inheritable: " + name);
  sets.ambient &= possible;
}

void read_limits(Json limits, LaunchPlan& plan) {
  limits.each([&](Json entry) {
    launch::ResourceLimit limit;
    auto resource = look_up(kLimits, entry.required("type").text());
    if (!resource) return entry["type"].refuse("is not a known resource limit");
    limit.resource = *resource;
    entry.required("soft").read(limit.soft);
    entry.required("hard").read(limit.hard);
    for (const auto& other : plan.limits)
      if (other.resource == limit.resource) entry.refuse("is there twice");
    plan.limits.push_back(limit);
  });
}

void read_scheduler(Json scheduler, LaunchPlan& plan) {
  if (!scheduler) return;
  launch::Scheduler target;
  auto policy = look_up(kPolicies, scheduler.required("policy").text());
  if (!policy) return scheduler["policy"].refuse("is not a known scheduling policy");
  target.policy = *policy;
  scheduler["nice"].read(target.nice);
  std::optional<std::uint32_t> priority;
  scheduler["priority"].read(priority);
  target.priority = priority.value_or(0);
  scheduler["flags"].each([&](Json entry) {
    auto flag = look_up(kSchedulerFlags, entry.text());
    if (!flag) return entry.refuse("is not a known scheduler flag");
    target.flags |= *flag;
  });
  scheduler["runtime"].read(target.runtime);
  scheduler["deadline"].read(target.deadline);
  scheduler["period"].read(target.period);
  plan.scheduler = target;
}

void read_io_priority(Json priority, LaunchPlan& plan) {
  if (!priority) return;
  auto io_class = look_up(kIoClasses, priority.required("class").text());
  if (!io_class) return priority["class"].refuse("is not a known I/O class");
  int level = 0;
  priority["priority"].read(level);
  if (level < 0 || level > 7) return priority["priority"].refuse("must be 0 to 7");
  plan.io_priority = *io_class << 13 | level;
}

void read_cpus(Json text, std::vector<int>& target) {
  if (!text) return;
  auto cpus = parse_cpu_list(text.text());
  if (!cpus || cpus->empty()) return text.refuse("is no list of processors such as 0-2,7");
  target = std::move(*cpus);
}

}  // namespace

std::vector<int> every_cpu() {
  std::vector<int> cpus(CPU_SETSIZE);
  std::iota(cpus.begin(), cpus.end(), 0);
  return cpus;
}

std::optional<std::vector<int>> parse_cpu_list(std::string_view text) {
  constexpr int kMostCpus = 8192;
  std::vector<int> cpus;
  while (!text.empty()) {
    std::string_view word = text.substr(0, text.find(','));
    text.remove_prefix(std::min(word.size() + 1, text.size()));
    while (word.starts_with(' ')) word.remove_prefix(1);
    int first = 0;
    const char* end = word.data() + word.size();
    auto [at, problem] = std::from_chars(word.data(), end, first);
    int last = first;
    if (problem == std::errc{} && at != end && *at == '-') {
      auto second = std::from_chars(at + 1, end, last);
      at = second.ptr;
      problem = second.ec;
    }
    if (problem != std::errc{} || at != end || first < 0 || last < first || last >= kMostCpus)
      return std::nullopt;
    for (int cpu = first; cpu <= last; ++cpu) cpus.push_back(cpu);
  }
  return cpus;
}

void keep_last_of_each_name(std::vector<std::string>& environment) {
  auto name_of = [](std::string_view variable) { return variable.substr(0, variable.find('=')); };
  std::unordered_set<std::string_view> seen;
  std::vector<std::string> kept;
  for (std::string& variable : environment | std::views::reverse)
    if (seen.insert(name_of(variable)).second) kept.push_back(variable);
  std::ranges::reverse(kept);
  std::erase(kept, "HOME=");
  environment = std::move(kept);
}

void read_process(Json process, LaunchPlan& plan, bool& terminal, std::vector<std::string>& warnings) {
  process["terminal"].read(terminal);
  if (Json size = process["consoleSize"]; size && terminal) {
    launch::Terminal console;
    size.required("height").read(console.rows);
    size.required("width").read(console.columns);
    plan.terminal = console;
  }
  process["args"].read(plan.argv);
  if (plan.argv.empty()) process.refuse("must have args: the program to run");
  process["env"].read(plan.environment);
  keep_last_of_each_name(plan.environment);
  process.required("cwd").read(plan.working_directory);
  if (!plan.working_directory.starts_with('/')) process["cwd"].refuse("must be an absolute path");
  read_user(process["user"], plan.user);
  Json sets = process["capabilities"];
  plan.capabilities.bounding = read_capability_set(sets["bounding"], warnings);
  plan.capabilities.effective = read_capability_set(sets["effective"], warnings);
  plan.capabilities.permitted = read_capability_set(sets["permitted"], warnings);
  plan.capabilities.inheritable = read_capability_set(sets["inheritable"], warnings);
  plan.capabilities.ambient = read_capability_set(sets["ambient"], warnings);
  drop_ambient_that_cannot_be(plan.capabilities, warnings);
  read_limits(process["rlimits"], plan);
  process["noNewPrivileges"].read(plan.no_new_privileges);
  process["apparmorProfile"].read(plan.apparmor_profile);
  process["selinuxLabel"].read(plan.selinux_label);
  process["oomScoreAdj"].read(plan.oom_score_adjustment);
  if (plan.oom_score_adjustment && (*plan.oom_score_adjustment < -1000 || *plan.oom_score_adjustment > 1000))
    process["oomScoreAdj"].refuse("must be -1000 to 1000");
  read_scheduler(process["scheduler"], plan);
  read_io_priority(process["ioPriority"], plan);
  read_cpus(process["execCPUAffinity"]["initial"], plan.initial_cpus);
  read_cpus(process["execCPUAffinity"]["final"], plan.final_cpus);
}

}  // namespace fastdock::oci
