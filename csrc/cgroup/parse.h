// Parsers of the kernel's cgroup and mountinfo files.  Pure functions: text in, values out; a line that
// does not fit is left out, never an error, because newer kernels add lines.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cgroup/statistics.h"

namespace fastdock::cgroup {

// One mount of a cgroup file system, from /proc/PID/mountinfo (proc_pid_mountinfo(5)).
struct Mount {
  bool v2 = false;
  std::string root;         // the cgroup that the mount point shows
  std::string mount_point;  // with \040 and its like decoded
  std::string options;      // the super block's: names the controllers of a v1 hierarchy
};
std::vector<Mount> parse_mountinfo(std::string_view text);

// One line of /proc/PID/cgroup (cgroups(7)): hierarchy:controllers:path.
struct Membership {
  int hierarchy = 0;        // 0: v2
  std::string controllers;  // "cpu,cpuacct", "name=systemd", or empty for v2
  std::string path;
};
std::vector<Membership> parse_memberships(std::string_view text);

// "max" is kNoLimit; nullopt where the text is no number.
std::optional<std::uint64_t> parse_number(std::string_view text);

// Lines of "key value".
using Values = std::vector<std::pair<std::string, std::uint64_t>>;
Values parse_flat_keyed(std::string_view text);
std::uint64_t value_of(const Values& values, std::string_view key, std::uint64_t otherwise = 0);

// Process ids, one a line; 0 (a process of another PID namespace) is kept for the caller to refuse.
std::vector<pid_t> parse_pids(std::string_view text);

// v2 io.stat: "8:0 rbytes=1 wbytes=2 rios=3 wios=4 …".
std::vector<DeviceIo> parse_io_stat(std::string_view text);

// v1 blkio.throttle.io_service_bytes (bytes) or io_serviced (operations): "8:0 Read 4096", added to
// `devices`.
void parse_blkio(std::string_view text, bool bytes, std::vector<DeviceIo>& devices);

// *.pressure: "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" (Documentation/accounting/psi.rst).
std::optional<Pressure> parse_pressure(std::string_view text);

// Calls visit(line) for each line, without its newline.
template <class Visit>
void for_each_line(std::string_view text, Visit&& visit) {
  while (!text.empty()) {
    std::size_t end = text.find('\n');
    visit(text.substr(0, end));
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
  }
}

// The next word of `text` (separated by spaces), which is taken off its front.
std::string_view next_word(std::string_view& text);

}  // namespace fastdock::cgroup
