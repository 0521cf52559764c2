// events.
#include <poll.h>
#include <rapidjson/stringbuffer.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cmath>

#include "cgroup/cgroup.h"
#include "oci/context.h"
#include "oci/figures.h"
#include "oci/state.h"

namespace fastdock::oci {
namespace {

Result<Figures> read_figures(const cgroup::Cgroup& group) {
  FASTDOCK_TRY(auto statistics, group.statistics());
  FASTDOCK_TRY(auto details, group.details());
  return Figures{std::move(statistics), std::move(details)};
}

std::string event_line(const std::string& id, const char* type, const Figures* figures) {
  rapidjson::StringBuffer buffer;
  Writer writer(buffer);
  writer.StartObject();
  writer.Key("type");
  writer.String(type);
  writer.Key("id");
  writer.String(id.c_str());
  if (figures != nullptr) {
    writer.Key("data");
    write_figures(writer, *figures);
  }
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
    auto figures = read_figures(group);
    if (!figures) return 0;
    FASTDOCK_CHECK(print(event_line(id, "stats", &*figures)));
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
  FASTDOCK_TRY(Figures figures, read_figures(group));
  FASTDOCK_CHECK(print(event_line(container.state.id, "stats", &figures)));
  return 0;
}

}  // namespace fastdock::oci
