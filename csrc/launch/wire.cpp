#include "launch/wire.h"

#include <cerrno>
#include <cstring>
#include <type_traits>

namespace fastdock::launch {
namespace {

// One list of the fields serves both directions: visit(archive, value) reads or writes, as `archive` is.
class Writer {
 public:
  static constexpr bool kReading = false;
  void bytes(void* data, std::size_t size) { out.append(static_cast<const char*>(data), size); }
  bool good = true;
  std::string out;
};

class Reader {
 public:
  static constexpr bool kReading = true;
  explicit Reader(std::string_view bytes) : rest(bytes) {}
  void bytes(void* data, std::size_t size) {
    if (size > rest.size()) {
      good = false;
      std::memset(data, 0, size);
      return;
    }
    std::memcpy(data, rest.data(), size);
    rest.remove_prefix(size);
  }
  bool good = true;
  std::string_view rest;
};

template <class Archive, class T>
  requires(std::is_arithmetic_v<T> || std::is_enum_v<T>)
void visit(Archive& archive, T& value) {
  archive.bytes(&value, sizeof value);
}

template <class Archive>
void visit(Archive& archive, sock_filter& value) {
  archive.bytes(&value, sizeof value);
}

template <class Archive, class Container>
void resize(Archive& archive, Container& container) {
  std::uint64_t size = container.size();
  visit(archive, size);
  if constexpr (Archive::kReading) {
    // An element is at least a byte: a size beyond what is left is damage, not a reason to allocate.
    if (size > archive.rest.size()) {
      archive.good = false;
      size = 0;
    }
    container.resize(size);
  }
}

template <class Archive>
void visit(Archive& archive, std::string& value) {
  resize(archive, value);
  archive.bytes(value.data(), value.size());
}

template <class Archive, class... T>
void visit_all(Archive& archive, T&... values);

template <class Archive, class T>
void visit(Archive& archive, std::vector<T>& values) {
  resize(archive, values);
  for (T& value : values) visit(archive, value);
}

template <class Archive, class T, std::size_t N>
void visit(Archive& archive, std::array<T, N>& values) {
  for (T& value : values) visit(archive, value);
}

template <class Archive, class T>
void visit(Archive& archive, std::optional<T>& value) {
  bool present = value.has_value();
  visit(archive, present);
  if (!present) return;
  if (!value) value.emplace();
  visit(archive, *value);
}

template <class Archive>
void visit(Archive& archive, NamespacePlan& value) {
  visit_all(archive, value.mode, value.path);
}
template <class Archive>
void visit(Archive& archive, IdMapping& value) {
  visit_all(archive, value.inside, value.outside, value.count);
}
template <class Archive>
void visit(Archive& archive, Mount& value) {
  visit_all(archive, value.type, value.source, value.destination, value.options, value.attributes_set,
            value.attributes_clear, value.recursive_set, value.recursive_clear, value.propagation,
            value.propagation_recursive, value.recursive, value.map_ids, value.id_maps.uids, value.id_maps.gids,
            value.layers, value.directory, value.in_memory);
}
template <class Archive>
void visit(Archive& archive, Device& value) {
  visit_all(archive, value.path, value.kind, value.major, value.minor, value.mode, value.uid, value.gid,
            value.host_path);
}
template <class Archive>
void visit(Archive& archive, Link& value) {
  visit_all(archive, value.target, value.path);
}
template <class Archive>
void visit(Archive& archive, ResourceLimit& value) {
  visit_all(archive, value.resource, value.soft, value.hard);
}
template <class Archive>
void visit(Archive& archive, Sysctl& value) {
  visit_all(archive, value.name, value.value);
}
template <class Archive>
void visit(Archive& archive, Capabilities& value) {
  visit_all(archive, value.bounding, value.effective, value.permitted, value.inheritable, value.ambient);
}
template <class Archive>
void visit(Archive& archive, User& value) {
  visit_all(archive, value.name, value.uid, value.gid, value.groups, value.group_names, value.umask);
}
template <class Archive>
void visit(Archive& archive, Terminal& value) {
  visit_all(archive, value.rows, value.columns);
}
template <class Archive>
void visit(Archive& archive, Scheduler& value) {
  visit_all(archive, value.policy, value.nice, value.priority, value.flags, value.runtime, value.deadline,
            value.period);
}
template <class Archive>
void visit(Archive& archive, ClockOffset& value) {
  visit_all(archive, value.clock, value.seconds, value.nanoseconds);
}

template <class Archive, class... T>
void visit_all(Archive& archive, T&... values) {
  (visit(archive, values), ...);
}

template <class Archive>
void visit(Archive& archive, LaunchPlan& plan) {
  visit_all(archive, plan.argv, plan.environment, plan.working_directory, plan.create_working_directory, plan.user,
            plan.namespaces, plan.uid_map, plan.gid_map, plan.clock_offsets, plan.root, plan.attach_point,
            plan.root_propagation, plan.keep_root, plan.mounts, plan.devices, plan.links, plan.masked_paths,
            plan.read_only_paths, plan.sysctls, plan.hostname, plan.domainname, plan.raise_loopback);
  visit_all(archive, plan.capabilities, plan.no_new_privileges, plan.seccomp, plan.seccomp_flags, plan.limits,
            plan.oom_score_adjustment, plan.scheduler, plan.io_priority, plan.initial_cpus, plan.final_cpus,
            plan.personality, plan.apparmor_profile, plan.selinux_label, plan.new_keyring, plan.stdio,
            plan.terminal, plan.preserve_descriptors, plan.init, plan.new_session, plan.parent_death_signal,
            plan.start_fifo, plan.cgroup_tasks, plan.cgroup_directory);
}

}  // namespace

std::string to_bytes(const LaunchPlan& plan) {
  Writer writer;
  LaunchPlan copy = plan;  // visit() is one function for both directions, so it takes no const
  visit(writer, copy);
  return std::move(writer.out);
}

Result<LaunchPlan> from_bytes(std::string_view bytes) {
  Reader reader(bytes);
  LaunchPlan plan;
  visit(reader, plan);
  if (!reader.good || !reader.rest.empty()) return failed_with(EINVAL, Operation::kParse, "launch plan");
  return plan;
}

}  // namespace fastdock::launch
