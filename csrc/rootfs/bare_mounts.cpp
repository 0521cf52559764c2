#include "rootfs/bare_mounts.h"

#include <algorithm>

#include "base/path.h"

namespace fastdock::rootfs {
namespace {

std::string_view next_word(std::string_view& text) {
  std::size_t end = std::min(text.find(' '), text.size());
  std::string_view word = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return word;
}

// proc_pid_mountinfo(5): space, tab, newline and backslash are \ and three octal digits.
std::string decoded(std::string_view text) {
  auto digit = [&](std::size_t at) { return at < text.size() && text[at] >= '0' && text[at] <= '7'; };
  std::string result;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] == '\\' && digit(at + 1) && digit(at + 2) && digit(at + 3)) {
      result += static_cast<char>((text[at + 1] - '0') * 64 + (text[at + 2] - '0') * 8 + text[at + 3] - '0');
      at += 3;
    } else {
      result += text[at];
    }
  }
  return result;
}

bool is_below(std::string_view path, std::string_view top) {
  return path.starts_with(top) && (path.size() == top.size() || path[top.size()] == '/');
}

}  // namespace

std::vector<std::string> parse_bare_mounts(std::string_view mountinfo, std::string_view except) {
  std::vector<std::string> found;
  while (!mountinfo.empty()) {
    // 36 35 98:0 /root /mount/point rw,noatime shared:1 - type source rw
    std::string_view line = mountinfo.substr(0, mountinfo.find('\n'));
    mountinfo.remove_prefix(std::min(line.size() + 1, mountinfo.size()));
    std::size_t dash = line.find(" - ");
    if (dash == std::string_view::npos) continue;
    std::string_view right = line.substr(dash + 3);
    std::string_view type = next_word(right);
    if (type != "proc" && type != "sysfs") continue;
    for (int skipped = 0; skipped < 3; ++skipped) next_word(line);
    if (next_word(line) != "/") continue;  // a part of one
    std::string point = decoded(next_word(line));
    if (point.starts_with('/') && !is_below(point, except)) found.push_back(std::move(point));
  }
  std::ranges::reverse(found);
  return found;
}

Result<std::vector<std::string>> bare_mounts(std::string_view except) {
  FASTDOCK_TRY(std::string mountinfo, read_file("/proc/self/mountinfo"));
  return parse_bare_mounts(mountinfo, except);
}

}  // namespace fastdock::rootfs
