#include "cgroup/controller.h"

#include <array>
#include <cstddef>

namespace fastdock::cgroup {
namespace {

struct Names {
  std::string_view v1, v2;
};

constexpr auto kNames = std::to_array<Names>({
    {"cpu", "cpu"},
    {"cpuacct", "cpuacct"},
    {"cpuset", "cpuset"},
    {"memory", "memory"},
    {"pids", "pids"},
    {"blkio", "io"},
    {"devices", "devices"},
    {"freezer", "freezer"},
    {"hugetlb", "hugetlb"},
    {"rdma", "rdma"},
    {"net_cls", "net_cls"},
    {"net_prio", "net_prio"},
    {"perf_event", "perf_event"},
    {"misc", "misc"},
    {"dmem", "dmem"},
});
static_assert(kNames.size() == static_cast<std::size_t>(Controller::kCount_));

}  // namespace

std::string_view name(Controller controller, Version version) {
  const Names& names = kNames.at(static_cast<std::size_t>(controller));
  return version == Version::kV1 ? names.v1 : names.v2;
}

std::optional<Controller> controller_named(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i)
    if (kNames[i].v1 == name || kNames[i].v2 == name) return static_cast<Controller>(i);
  return std::nullopt;
}

ControllerSet parse_controllers(std::string_view text, char separator) {
  ControllerSet set;
  while (!text.empty()) {
    std::size_t end = text.find(separator);
    std::string_view word = text.substr(0, end);
    if (!word.empty() && word.back() == '\n') word.remove_suffix(1);
    if (auto controller = controller_named(word)) set.add(*controller);
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
  }
  return set;
}

}  // namespace fastdock::cgroup
