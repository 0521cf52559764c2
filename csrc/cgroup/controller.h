// The names of the kernel's cgroup controllers, and sets of them.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string_view>

namespace fastdock::cgroup {

enum class Version : std::uint8_t { kV1, kV2 };

enum class Controller : std::uint8_t {
  kCpu,
  kCpuacct,  // v2: part of cpu.stat, always there
  kCpuset,
  kMemory,
  kPids,
  kIo,       // "blkio" on v1
  kDevices,  // v2: an eBPF program, no controller
  kFreezer,  // v2: cgroup.freeze, no controller
  kHugetlb,
  kRdma,
  kNetCls,     // v1 only
  kNetPrio,    // v1 only
  kPerfEvent,  // v2: implicit
  kMisc,
  kDmem,
  kCount_,
};

// "blkio" or "io", and so on.
std::string_view name(Controller controller, Version version);
std::optional<Controller> controller_named(std::string_view name);

class ControllerSet {
 public:
  constexpr ControllerSet() = default;
  constexpr ControllerSet(std::initializer_list<Controller> controllers) {
    for (Controller controller : controllers) add(controller);
  }

  constexpr void add(Controller controller) { bits_ |= bit(controller); }
  constexpr void remove(Controller controller) { bits_ &= ~bit(controller); }
  [[nodiscard]] constexpr bool contains(Controller controller) const {
    return (bits_ & bit(controller)) != 0;
  }
  [[nodiscard]] constexpr bool empty() const { return bits_ == 0; }
  friend constexpr ControllerSet operator|(ControllerSet a, ControllerSet b) {
    return ControllerSet(a.bits_ | b.bits_);
  }
  friend constexpr ControllerSet operator&(ControllerSet a, ControllerSet b) {
    return ControllerSet(a.bits_ & b.bits_);
  }
  friend constexpr ControllerSet operator-(ControllerSet a, ControllerSet b) {
    return ControllerSet(a.bits_ & ~b.bits_);
  }
  friend constexpr bool operator==(ControllerSet a, ControllerSet b) = default;

  // Calls visit(Controller) for each member.
  template <class Visit>
  void for_each(Visit&& visit) const {
    for (std::uint8_t i = 0; i < static_cast<std::uint8_t>(Controller::kCount_); ++i)
      if (contains(static_cast<Controller>(i))) visit(static_cast<Controller>(i));
  }

 private:
  explicit constexpr ControllerSet(std::uint32_t bits) : bits_(bits) {}
  static constexpr std::uint32_t bit(Controller controller) {
    return std::uint32_t{1} << static_cast<std::uint32_t>(controller);
  }

  std::uint32_t bits_ = 0;
};

// The set written in a cgroup.controllers file or in the mount options of a v1 hierarchy; names that
// are no controllers of ours are left out.
ControllerSet parse_controllers(std::string_view text, char separator);

}  // namespace fastdock::cgroup
