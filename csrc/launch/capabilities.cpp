#include "launch/capabilities.h"

#include <linux/capability.h>
#include <sys/prctl.h>

#include <array>
#include <charconv>

#include "base/path.h"

namespace fastdock::launch {
namespace {

// linux/capability.h, in its order.
constexpr auto kNames = std::to_array<std::string_view>({
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
});
static_assert(kNames.size() == kCapabilityCount && kCapabilityCount == CAP_LAST_CAP + 1);

// Not toupper(3): capability names are ASCII in every locale (in Turkish, "i" is not the small "I").
constexpr char upper(char letter) {
  return letter >= 'a' && letter <= 'z' ? static_cast<char>(letter - 'a' + 'A') : letter;
}

bool same_word(std::string_view word, std::string_view upper_case) {
  if (word.size() != upper_case.size()) return false;
  for (std::size_t i = 0; i < word.size(); ++i)
    if (upper(word[i]) != upper_case[i]) return false;
  return true;
}

}  // namespace

// moby, oci/caps/defaults.go.
const CapabilitySet kDefaultCapabilities =
    capability_bit(CAP_CHOWN) | capability_bit(CAP_DAC_OVERRIDE) | capability_bit(CAP_FSETID) |
    capability_bit(CAP_FOWNER) | capability_bit(CAP_MKNOD) | capability_bit(CAP_NET_RAW) |
    capability_bit(CAP_SETGID) | capability_bit(CAP_SETUID) | capability_bit(CAP_SETFCAP) |
    capability_bit(CAP_SETPCAP) | capability_bit(CAP_NET_BIND_SERVICE) | capability_bit(CAP_SYS_CHROOT) |
    capability_bit(CAP_KILL) | capability_bit(CAP_AUDIT_WRITE);

std::optional<int> capability_number(std::string_view name) {
  constexpr std::string_view prefix = "CAP_";
  if (name.size() > prefix.size() && same_word(name.substr(0, prefix.size()), prefix))
    name.remove_prefix(prefix.size());
  for (int number = 0; number < kCapabilityCount; ++number)
    if (same_word(name, capability_name(number).substr(prefix.size()))) return number;
  return std::nullopt;
}

std::string_view capability_name(int number) {
  if (number < 0 || number >= kCapabilityCount) return {};
  return kNames[static_cast<std::size_t>(number)];
}

std::optional<CapabilitySet> parse_capabilities(const std::vector<std::string>& names, std::string* unknown) {
  CapabilitySet set = 0;
  for (const std::string& name : names) {
    if (same_word(name, "ALL") || same_word(name, "CAP_ALL")) {
      set |= kAllCapabilities;
    } else if (auto number = capability_number(name)) {
      set |= capability_bit(*number);
    } else {
      if (unknown != nullptr) *unknown = name;
      return std::nullopt;
    }
  }
  return set;
}

std::vector<std::string> capability_names(CapabilitySet set) {
  std::vector<std::string> names;
  for (int number = 0; number < kCapabilityCount; ++number)
    if (has_capability(set, number)) names.emplace_back(capability_name(number));
  return names;
}

namespace {

int find_last_capability() {
  if (auto text = read_file("/proc/sys/kernel/cap_last_cap")) {
    int number = 0;
    auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), number);
    if (error == std::errc() && number >= 0 && number < 64) return number;
  }
  // prctl(2): EINVAL for a capability that this kernel does not have.
  int number = 0;
  while (number < 63 && ::prctl(PR_CAPBSET_READ, number + 1, 0, 0, 0) >= 0) ++number;
  return number;
}

}  // namespace

int last_capability() {
  static const int last = find_last_capability();  // one kernel for as long as we live
  return last;
}

CapabilitySet bounding_set() {
  CapabilitySet set = 0;
  for (int number = 0; number < kCapabilityCount; ++number)
    if (::prctl(PR_CAPBSET_READ, number, 0, 0, 0) == 1) set |= capability_bit(number);
  return set;
}

}  // namespace fastdock::launch
