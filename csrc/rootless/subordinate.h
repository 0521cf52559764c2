// The ids that an ordinary user may use beside its own: /etc/subuid and /etc/subgid, subuid(5).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fastdock::rootless {

struct IdRange {
  std::uint32_t first = 0;
  std::uint32_t count = 0;
  bool operator==(const IdRange&) const = default;
};

// The ranges of the user in the text of such a file ("name:100000:65536", or the number in the name's place).
// Lines that are malformed or lead beyond 2^32-2 are ignored, as newuidmap(1) ignores them.
std::vector<IdRange> subordinate_ranges(std::string_view text, std::string_view name, std::uint32_t uid);

// The name of `uid` in the text of /etc/passwd; empty: none.
std::string user_name(std::string_view passwd, std::uint32_t uid);

}  // namespace fastdock::rootless
