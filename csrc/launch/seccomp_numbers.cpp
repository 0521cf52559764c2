#include "launch/seccomp_numbers.h"

#include <seccomp.h>

#include <algorithm>
#include <array>

namespace fastdock::launch {
namespace {

struct NewCall {
  std::string_view name;
  std::uint32_t number;
  bool x86_64_only = false;
};

// Linux 6.18, arch/x86/entry/syscalls/syscall_{32,64}.tbl.  From 403 on, numbers are the same on all
// architectures.  Debian 12's libseccomp 2.5.4 ends with Linux 6.7.
constexpr auto kNewCalls = std::to_array<NewCall>({
    {"uretprobe", 335, true},   // 6.11
    {"uprobe", 336, true},      // 6.18
    {"cachestat", 451},         // 6.5
    {"fchmodat2", 452},         // 6.6
    {"map_shadow_stack", 453},  // 6.6
    {"futex_wake", 454},        // 6.7
    {"futex_wait", 455},
    {"futex_requeue", 456},
    {"statmount", 457},  // 6.8
    {"listmount", 458},
    {"lsm_get_self_attr", 459},
    {"lsm_set_self_attr", 460},
    {"lsm_list_modules", 461},
    {"mseal", 462},       // 6.10
    {"setxattrat", 463},  // 6.13
    {"getxattrat", 464},
    {"listxattrat", 465},
    {"removexattrat", 466},
    {"open_tree_attr", 467},  // 6.15
    {"file_getattr", 468},    // 6.17
    {"file_setattr", 469},
});

// libseccomp answers a pseudo number for these on x86, because it filters both ways of calling them.
constexpr auto kDirectSocketCalls = std::to_array<NewCall>({
    {"socket", 359},
    {"socketpair", 360},
    {"bind", 361},
    {"connect", 362},
    {"listen", 363},
    {"accept4", 364},
    {"getsockopt", 365},
    {"setsockopt", 366},
    {"getsockname", 367},
    {"getpeername", 368},
    {"sendto", 369},
    {"sendmsg", 370},
    {"recvfrom", 371},
    {"recvmsg", 372},
    {"shutdown", 373},
});

template <std::size_t count>
const NewCall* find(const std::array<NewCall, count>& table, std::string_view name) {
  auto* call = std::ranges::find(table, name, &NewCall::name);
  return call == table.end() ? nullptr : call;
}

}  // namespace

std::optional<std::uint32_t> syscall_number(std::uint32_t architecture, const char* name) {
  int number = seccomp_syscall_resolve_name_arch(architecture, name);
  if (number >= 0) return static_cast<std::uint32_t>(number);
  if (number == __NR_SCMP_ERROR) {
    const NewCall* call = find(kNewCalls, name);
    if (call == nullptr || (call->x86_64_only && architecture != SCMP_ARCH_X86_64)) return std::nullopt;
    return architecture == SCMP_ARCH_X32 ? call->number | kX32Bit : call->number;
  }
  if (architecture == SCMP_ARCH_X86)
    if (const NewCall* call = find(kDirectSocketCalls, name)) return call->number;
  return std::nullopt;
}

bool newer_than_libseccomp(const char* name) {
  return seccomp_syscall_resolve_name(name) == __NR_SCMP_ERROR && find(kNewCalls, name) != nullptr;
}

}  // namespace fastdock::launch
