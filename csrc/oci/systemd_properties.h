// What systemd is told of a container: the scope's name and place, and its limits in systemd's own words.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "cgroup/limits.h"
#include "dbus/writer.h"
#include "oci/config.h"

namespace fastdock::oci {

// "slice:prefix:name" of linux.cgroupsPath, as runc has it.
struct ScopePlace {
  std::string slice;   // "a-b.slice"
  std::string unit;    // "prefix-name.scope"
  std::string cgroup;  // "/a.slice/a-b.slice/prefix-name.scope", below systemd's own
};
// Empty: `default_slice` (of a user's own systemd: user.slice), and a name of ours.  EINVAL: it is none.
Result<ScopePlace> scope_place(const std::string& cgroups_path, const std::string& id,
                               const char* default_slice = "system.slice");

// A list of properties as StartTransientUnit and SetUnitProperties take it: a(sv).
class Properties {
 public:
  void text(std::string_view name, std::string_view value);
  void boolean(std::string_view name, bool value);
  void u64(std::string_view name, std::uint64_t value);
  void bytes(std::string_view name, std::string_view value);
  void process_ids(std::string_view name, const std::vector<std::uint32_t>& values);
  void device_list(std::string_view name, const std::vector<std::pair<std::string, std::string>>& values);
  // A value that the caller marshals.
  dbus::Writer& value(std::string_view name, std::string_view type);

  [[nodiscard]] bool empty() const { return writer_.bytes().empty(); }
  void append_to(dbus::Writer& writer) const;
  [[nodiscard]] const std::string& bytes_for_tests() const { return writer_.bytes(); }

 private:
  dbus::Writer writer_;
};

// Those limits that systemd has, too: it would set its own over ours at the next `daemon-reload` otherwise.
// `systemd` is its version: properties that it does not know are left out.
Result<void> add_limits(const cgroup::Limits& limits, cgroup::Version version, unsigned systemd,
                        Properties& properties);

// The annotations "org.systemd.property.NAME", whose values are GVariant text: strings, booleans, numbers
// with their type or without (int32), and arrays of strings.  As runc, NAMESec takes seconds and is sent as
// NAMEUSec. EINVAL: one is none of these.
Result<void> add_annotations(const Annotations& annotations, Properties& properties);

}  // namespace fastdock::oci
