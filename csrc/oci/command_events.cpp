// events.
#include <poll.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cmath>

#include "cgroup/cgroup.h"
#include "oci/context.h"
#include "oci/state.h"

namespace fastdock::oci {
namespace {

using Writer = rapidjson::Writer<rapidjson::StringBuffer>;

void put(Writer& writer, const char* key, std::uint64_t number) {
  writer.Key(key);
  writer.Uint64(number);
}

template <class Function>
void object(Writer& writer, const char* key, Function members) {
  writer.Key(key);
  writer.StartObject();
  members();
  writer.EndObject();
}

void put_cpu(Writer& writer, const cgroup::Statistics& statistics) {
  object(writer, "cpu", [&] {
    object(writer, "usage", [&] {
      put(writer, "total", statistics.usage.cpu_ns);
      put(writer, "kernel", statistics.usage.cpu_system_ns);
      put(writer, "user", statistics.usage.cpu_user_ns);
    });
    object(writer, "throttling", [&] {
      put(writer, "periods", statistics.periods);
      put(writer, "throttledPeriods", statistics.throttled_periods);
      put(writer, "throttledTime", statistics.throttled_ns);
    });
  });
}

void put_memory(Writer& writer, const cgroup::Statistics& statistics) {
  object(writer, "memory", [&] {
    put(writer, "cache", statistics.memory_cache);
    object(writer, "usage", [&] {
      put(writer, "limit", statistics.memory_limit);
      put(writer, "usage", statistics.memory_current);
      if (statistics.usage.memory_peak) put(writer, "max", *statistics.usage.memory_peak);
      put(writer, "failcnt", statistics.memory_limit_hits);
    });
    // As runc, on v2 too (its fs2/memory.go): memory and swap together, which is how v1 counts.
    const bool limited =
        statistics.swap_limit != cgroup::kNoLimit && statistics.memory_limit != cgroup::kNoLimit;
    object(writer, "swap", [&] {
      put(writer, "limit", limited ? statistics.memory_limit + statistics.swap_limit : cgroup::kNoLimit);
      put(writer, "usage", statistics.memory_current + statistics.swap_current);
      put(writer, "failcnt", 0);
    });
    object(writer, "kernel", [&] { put(writer, "usage", statistics.memory_kernel); });
    object(writer, "raw", [&] {
      for (const auto& [key, value] : statistics.memory_stat) put(writer, key.c_str(), value);
    });
  });
}

void put_io(Writer& writer, const cgroup::Statistics& statistics) {
  object(writer, "blkio", [&] {
    auto entries = [&](const char* key, auto read, auto write) {
      writer.Key(key);
      writer.StartArray();
      for (const cgroup::DeviceIo& device : statistics.io) {
        for (bool reading : {true, false}) {
          writer.StartObject();
          put(writer, "major", device.major);
          put(writer, "minor", device.minor);
          writer.Key("op");
          writer.String(reading ? "Read" : "Write");
          put(writer, "value", reading ? device.*read : device.*write);
          writer.EndObject();
        }
      }
      writer.EndArray();
    };
    entries("ioServiceBytesRecursive", &cgroup::DeviceIo::read_bytes, &cgroup::DeviceIo::write_bytes);
    entries("ioServicedRecursive", &cgroup::DeviceIo::reads, &cgroup::DeviceIo::writes);
  });
}

void put_data(Writer& writer, const cgroup::Statistics& statistics) {
  put_cpu(writer, statistics);
  put_memory(writer, statistics);
  object(writer, "pids", [&] {
    put(writer, "current", statistics.pids_current);
    if (statistics.pids_limit != cgroup::kNoLimit) put(writer, "limit", statistics.pids_limit);
  });
  put_io(writer, statistics);
  object(writer, "hugetlb", [&] {
    for (const cgroup::HugetlbUse& use : statistics.hugetlb)
      object(writer, use.page_size.c_str(), [&] {
        put(writer, "usage", use.current);
        put(writer, "failcnt", use.failures);
      });
  });
}

std::string event_line(const std::string& id, const char* type, const cgroup::Statistics* statistics) {
  rapidjson::StringBuffer buffer;
  Writer writer(buffer);
  writer.StartObject();
  writer.Key("type");
  writer.String(type);
  writer.Key("id");
  writer.String(id.c_str());
  if (statistics != nullptr) object(writer, "data", [&] { put_data(writer, *statistics); });
  writer.EndObject();
  return std::string(buffer.GetString(), buffer.GetSize()) + "\n";
}

// "5s", "500ms", "1m", or a number of seconds: Go's durations, of one unit.
std::optional<int> parse_interval(const std::string& text) {
  char* end = nullptr;
  double number = std::strtod(text.c_str(), &end);
  std::string_view unit = end;
  double factor = unit.empty() || unit == "s" ? 1e3
                  : unit == "ms"              ? 1
                  : unit == "m"               ? 6e4
                  : unit == "h"               ? 3.6e6
                                              : 0;
  double milliseconds = number * factor;
  if (end == text.c_str() || !(milliseconds >= 1) || milliseconds > 1e9) return std::nullopt;
  return static_cast<int>(milliseconds);
}

// Until the container ends.
Result<int> follow(const Container& container, const cgroup::Cgroup& group, int interval, bool told_at_once) {
  FASTDOCK_TRY(Fd process, container.process());
  Fd memory;
  if (auto watched = group.watch_oom()) memory = std::move(*watched);
  std::uint64_t kills = group.usage() ? group.usage()->oom_kills : 0;
  const std::string& id = container.state.id;
  while (true) {
    std::array<pollfd, 2> watched = {{{process.get(), POLLIN, 0}, {memory.get(), POLLIN, 0}}};
    int ready = ::poll(watched.data(), watched.size(), interval);
    if (ready < 0 && errno != EINTR) return failed(Operation::kWaitForProcess, id);
    if (watched[0].revents != 0) return 0;
    if (watched[1].revents != 0) {
      std::array<char, 4096> events;
      if (::read(memory.get(), events.data(), events.size()) < 0) continue;
      auto usage = group.usage();
      if (!usage) return 0;
      // v1 tells of each time that memory ran out, just before it kills (as runc, one event each); v2 of
      // every change of memory.events, of which kills are one.
      if (told_at_once) {
        FASTDOCK_CHECK(print(event_line(id, "oom", nullptr)));
        continue;
      }
      for (; kills < usage->oom_kills; ++kills) FASTDOCK_CHECK(print(event_line(id, "oom", nullptr)));
      continue;
    }
    if (ready != 0) continue;
    auto statistics = group.statistics();
    if (!statistics) return 0;
    FASTDOCK_CHECK(print(event_line(id, "stats", &*statistics)));
  }
}

}  // namespace

Result<int> command_events(const Context& context, Words words) {
  constexpr auto kFlags = std::to_array<Flag>(
      {{"interval", 0, true, "time between statistics (5s)"}, {"stats", 0, false, "once, and end"}});
  FASTDOCK_TRY(Arguments arguments, parse_flags(kFlags, words, FlagsEnd::kNever, "events"));
  FASTDOCK_CHECK(expect_arguments(arguments, 1, "events [--stats] [--interval 5s] <container-id>"));
  auto interval = parse_interval(arguments.text("interval", "5s"));
  if (!interval)
    return failed_with(EINVAL, Operation::kUseContainer, "duration interval must be greater than 0");
  FASTDOCK_TRY(Container container, Container::open(context.root, arguments.positional.front()));
  if (container.status() == Status::kStopped)
    return failed_with(ESRCH, Operation::kUseContainer, "container not running");
  FASTDOCK_TRY(const cgroup::Hierarchies* hierarchies, cgroup::Hierarchies::machine());
  FASTDOCK_TRY(auto group, cgroup::Cgroup::open(*hierarchies, container.state.cgroup));
  if (!arguments.has("stats")) {
    const cgroup::Hierarchy* memory = hierarchies->of(cgroup::Controller::kMemory);
    bool told_at_once = memory != nullptr && memory->version == cgroup::Version::kV1;
    return follow(container, group, *interval, told_at_once);
  }
  FASTDOCK_TRY(auto statistics, group.statistics());
  FASTDOCK_CHECK(print(event_line(container.state.id, "stats", &statistics)));
  return 0;
}

}  // namespace fastdock::oci
