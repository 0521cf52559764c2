#include "rootless/subordinate.h"

#include <array>
#include <charconv>
#include <optional>

namespace fastdock::rootless {
namespace {

// -1 as an id means "no change" to the system calls.
constexpr std::uint64_t kMaximumId = 0xfffffffe;

std::optional<std::uint32_t> number(std::string_view text) {
  std::uint32_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// Calls `use` with the first `N` fields of each line.
template <std::size_t N, class Use>
void for_each_line(std::string_view text, Use use) {
  while (!text.empty()) {
    std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text = end == std::string_view::npos ? "" : text.substr(end + 1);
    std::array<std::string_view, N> fields;
    std::size_t count = 0;
    for (; count < N; ++count) {
      std::size_t colon = line.find(':');
      fields[count] = line.substr(0, colon);
      if (colon == std::string_view::npos) {
        ++count;
        break;
      }
      line = line.substr(colon + 1);
    }
    if (count == N) use(fields);
  }
}

}  // namespace

std::vector<IdRange> subordinate_ranges(std::string_view text, std::string_view name, std::uint32_t uid) {
  std::vector<IdRange> ranges;
  const std::string digits = std::to_string(uid);
  for_each_line<3>(text, [&](const auto& fields) {
    if (fields[0] != digits && (name.empty() || fields[0] != name)) return;
    auto first = number(fields[1]);
    auto count = number(fields[2]);
    if (!first || !count || *count == 0 || std::uint64_t{*first} + *count - 1 > kMaximumId) return;
    ranges.push_back({*first, *count});
  });
  return ranges;
}

std::string user_name(std::string_view passwd, std::uint32_t uid) {
  std::string found;
  for_each_line<3>(passwd, [&](const auto& fields) {
    if (found.empty() && number(fields[2]) == uid) found = fields[0];
  });
  return found;
}

}  // namespace fastdock::rootless
