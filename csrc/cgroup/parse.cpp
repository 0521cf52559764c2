#include "cgroup/parse.h"

#include <algorithm>
#include <charconv>

namespace fastdock::cgroup {
namespace {

template <class Number>
std::optional<Number> to_number(std::string_view text) {
  Number value{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

bool is_octal(char c) { return c >= '0' && c <= '7'; }

// proc_pid_mountinfo(5): space, tab, newline and backslash are written as \ and three octal digits.
std::string decode_octal(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && is_octal(text[i + 1]) && is_octal(text[i + 2]) &&
        is_octal(text[i + 3])) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

// "8:16"
std::optional<std::pair<std::uint32_t, std::uint32_t>> parse_device(std::string_view text) {
  std::size_t colon = text.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  auto major = to_number<std::uint32_t>(text.substr(0, colon));
  auto minor = to_number<std::uint32_t>(text.substr(colon + 1));
  if (!major || !minor) return std::nullopt;
  return std::pair(*major, *minor);
}

// "avg10=0.12" for the key "avg10": "0.12"
std::optional<std::string_view> after_equals(std::string_view word, std::string_view key) {
  if (word.size() <= key.size() || !word.starts_with(key) || word[key.size()] != '=') return std::nullopt;
  return word.substr(key.size() + 1);
}

PressureLine parse_pressure_line(std::string_view line) {
  PressureLine pressure;
  while (!line.empty()) {
    std::string_view word = next_word(line);
    if (auto text = after_equals(word, "avg10")) pressure.avg10 = to_number<double>(*text).value_or(0);
    if (auto text = after_equals(word, "avg60")) pressure.avg60 = to_number<double>(*text).value_or(0);
    if (auto text = after_equals(word, "avg300")) pressure.avg300 = to_number<double>(*text).value_or(0);
    if (auto text = after_equals(word, "total"))
      pressure.total_us = to_number<std::uint64_t>(*text).value_or(0);
  }
  return pressure;
}

}  // namespace

std::string_view next_word(std::string_view& text) {
  std::size_t begin = text.find_first_not_of(' ');
  if (begin == std::string_view::npos) {
    text = {};
    return {};
  }
  std::size_t end = text.find(' ', begin);
  std::string_view word = text.substr(begin, end == std::string_view::npos ? end : end - begin);
  text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
  return word;
}

std::vector<Mount> parse_mountinfo(std::string_view text) {
  std::vector<Mount> mounts;
  for_each_line(text, [&](std::string_view line) {
    // 36 35 98:0 /root /mount/point rw,noatime shared:1 - cgroup source rw,memory
    std::size_t dash = line.find(" - ");
    if (dash == std::string_view::npos) return;
    std::string_view left = line.substr(0, dash);
    std::string_view right = line.substr(dash + 3);
    std::string_view type = next_word(right);
    if (type != "cgroup" && type != "cgroup2") return;
    for (int skipped = 0; skipped < 3; ++skipped) next_word(left);
    std::string_view root = next_word(left);
    std::string_view mount_point = next_word(left);
    next_word(right);  // the source
    if (!root.starts_with('/') || !mount_point.starts_with('/')) return;
    mounts.push_back(
        {type == "cgroup2", decode_octal(root), decode_octal(mount_point), std::string(next_word(right))});
  });
  return mounts;
}

std::vector<Membership> parse_memberships(std::string_view text) {
  std::vector<Membership> memberships;
  for_each_line(text, [&](std::string_view line) {
    std::size_t first = line.find(':');
    if (first == std::string_view::npos) return;
    std::size_t second = line.find(':', first + 1);  // the path may hold colons, the controllers do not
    if (second == std::string_view::npos) return;
    auto hierarchy = to_number<int>(line.substr(0, first));
    if (!hierarchy || *hierarchy < 0) return;
    memberships.push_back({*hierarchy, std::string(line.substr(first + 1, second - first - 1)),
                           std::string(line.substr(second + 1))});
  });
  return memberships;
}

std::optional<std::uint64_t> parse_number(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  if (text == "max" || text == "-1") return kNoLimit;
  return to_number<std::uint64_t>(text);
}

Values parse_flat_keyed(std::string_view text) {
  Values values;
  for_each_line(text, [&](std::string_view line) {
    std::string_view key = next_word(line);
    auto value = parse_number(next_word(line));
    if (!key.empty() && value) values.emplace_back(key, *value);
  });
  return values;
}

std::uint64_t value_of(const Values& values, std::string_view key, std::uint64_t otherwise) {
  auto found =
      std::find_if(values.begin(), values.end(), [&](const auto& pair) { return pair.first == key; });
  return found == values.end() ? otherwise : found->second;
}

std::vector<pid_t> parse_pids(std::string_view text) {
  std::vector<pid_t> pids;
  for_each_line(text, [&](std::string_view line) {
    auto pid = to_number<pid_t>(line);
    if (pid && *pid >= 0) pids.push_back(*pid);
  });
  return pids;
}

std::vector<DeviceIo> parse_io_stat(std::string_view text) {
  std::vector<DeviceIo> devices;
  for_each_line(text, [&](std::string_view line) {
    auto device = parse_device(next_word(line));
    if (!device) return;
    DeviceIo io{device->first, device->second};
    while (!line.empty()) {
      std::string_view word = next_word(line);
      if (auto number = after_equals(word, "rbytes"))
        io.read_bytes = to_number<std::uint64_t>(*number).value_or(0);
      if (auto number = after_equals(word, "wbytes"))
        io.write_bytes = to_number<std::uint64_t>(*number).value_or(0);
      if (auto number = after_equals(word, "rios")) io.reads = to_number<std::uint64_t>(*number).value_or(0);
      if (auto number = after_equals(word, "wios")) io.writes = to_number<std::uint64_t>(*number).value_or(0);
    }
    devices.push_back(io);
  });
  return devices;
}

void parse_blkio(std::string_view text, bool bytes, std::vector<DeviceIo>& devices) {
  for_each_line(text, [&](std::string_view line) {
    auto device = parse_device(next_word(line));
    if (!device) return;  // the last line is a total
    std::string_view kind = next_word(line);
    auto value = to_number<std::uint64_t>(next_word(line));
    if (!value) return;
    auto found = std::find_if(devices.begin(), devices.end(), [&](const DeviceIo& io) {
      return io.major == device->first && io.minor == device->second;
    });
    if (found == devices.end()) found = devices.insert(found, DeviceIo{device->first, device->second});
    if (kind == "Read") (bytes ? found->read_bytes : found->reads) += *value;
    if (kind == "Write") (bytes ? found->write_bytes : found->writes) += *value;
  });
}

std::optional<Pressure> parse_pressure(std::string_view text) {
  Pressure pressure;
  bool found = false;
  for_each_line(text, [&](std::string_view line) {
    std::string_view kind = next_word(line);
    if (kind == "some") pressure.some = parse_pressure_line(line);
    if (kind == "full") pressure.full = parse_pressure_line(line);
    found = found || kind == "some" || kind == "full";
  });
  return found ? std::optional(pressure) : std::nullopt;
}

}  // namespace fastdock::cgroup
