// Capabilities: their names and numbers, and which of them this process can pass on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fastdock::launch {

// Bit n is capability number n of linux/capability.h.
using CapabilitySet = std::uint64_t;

constexpr int kCapabilityCount = 41;  // CAP_CHOWN .. CAP_CHECKPOINT_RESTORE (Linux 5.9; none since)
constexpr CapabilitySet kAllCapabilities = (CapabilitySet{1} << kCapabilityCount) - 1;

constexpr CapabilitySet capability_bit(int number) { return CapabilitySet{1} << number; }
constexpr bool has_capability(CapabilitySet set, int number) { return (set >> number & 1) != 0; }

// What Docker gives a container unless told otherwise: 14 capabilities.
extern const CapabilitySet kDefaultCapabilities;

// "CAP_CHOWN", "chown", "Cap_Chown" -> 0.  "ALL" is not a capability; see parse_capabilities.
std::optional<int> capability_number(std::string_view name);

// "CAP_CHOWN"; empty for a number that has no name.
std::string_view capability_name(int number);

// The bits of `names`, of which "ALL" means every capability; nothing, and the first bad name in `unknown`,
// if one does not exist.
std::optional<CapabilitySet> parse_capabilities(const std::vector<std::string>& names, std::string* unknown);

std::vector<std::string> capability_names(CapabilitySet set);

// The highest capability that this kernel knows, from /proc/sys/kernel/cap_last_cap; without /proc, asked
// of the kernel by prctl(PR_CAPBSET_READ).
int last_capability();

// The bounding set of the calling thread: nothing outside of it can ever be had again.
CapabilitySet bounding_set();

// What of `wanted` this kernel knows and this process may pass on.
inline CapabilitySet available_capabilities(CapabilitySet wanted) { return wanted & bounding_set(); }

}  // namespace fastdock::launch
