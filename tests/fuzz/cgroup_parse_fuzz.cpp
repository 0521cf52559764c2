// The parsers of cgroup and mountinfo files take any bytes.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "cgroup/hierarchies.h"
#include "cgroup/parse.h"
#include "cgroup/tree.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fastdock::cgroup;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  std::string_view rest = text.substr(text.size() / 2);
  for (const Hierarchy& hierarchy : Hierarchies::parse(text, rest).all())
    if (hierarchy.own.starts_with("/..")) std::abort();
  for (pid_t pid : parse_pids(text))
    if (pid < 0) std::abort();
  std::vector<DeviceIo> devices = parse_io_stat(text);
  parse_blkio(text, true, devices);
  parse_blkio(rest, false, devices);
  (void)parse_flat_keyed(text);
  (void)parse_pressure(text);
  (void)parse_number(text);
  (void)parse_controllers(text, ' ');
  if (check_path(text) && text.find("..") == 0) {
    // "..x" is a name; ".." and "../x" must have been refused.
    if (text == ".." || text.starts_with("../")) std::abort();
  }
  return 0;
}
