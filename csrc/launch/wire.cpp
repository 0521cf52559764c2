#include "launch/wire.h"

#include <cerrno>

#include "base/archive.h"

namespace fastdock::launch {
namespace {

using archive::visit_all;

// Of this namespace, so that the functions below are found for them (base/archive.h).
struct Writer : archive::Writer {};
struct Reader : archive::Reader {
  using archive::Reader::Reader;
};

template <class Archive>
void visit(Archive& archive, sock_filter& value) {
  archive.bytes(&value, sizeof value);
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
            value.attributes_clear, value.attributes_reset, value.recursive_set, value.recursive_clear,
            value.propagation, value.propagation_recursive, value.recursive, value.copy_up, value.map_ids,
            value.map_ids_below, value.keep_mode, value.inside, value.id_maps.uids, value.id_maps.gids,
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
  visit_all(archive, value.rows, value.columns, value.plain_newlines);
}
template <class Archive>
void visit(Archive& archive, Scheduler& value) {
  visit_all(archive, value.policy, value.nice, value.priority, value.flags, value.runtime, value.deadline,
            value.period);
}
template <class Archive>
void visit(Archive& archive, MemoryPolicy& value) {
  visit_all(archive, value.mode, value.nodes);
}
template <class Archive>
void visit(Archive& archive, ClockOffset& value) {
  visit_all(archive, value.clock, value.seconds, value.nanoseconds);
}

template <class Archive>
void visit(Archive& archive, LaunchPlan& plan) {
  visit_all(archive, plan.argv, plan.program, plan.environment, plan.working_directory,
            plan.create_working_directory, plan.user, plan.namespaces, plan.uid_map, plan.gid_map,
            plan.clock_offsets, plan.root, plan.attach_point, plan.root_propagation, plan.root_change,
            plan.other_root, plan.mounts, plan.devices, plan.links, plan.masked_paths, plan.read_only_paths,
            plan.sysctls, plan.hostname, plan.domainname, plan.raise_loopback);
  visit_all(archive, plan.capabilities, plan.no_new_privileges, plan.seccomp, plan.seccomp_flags, plan.limits,
            plan.oom_score_adjustment, plan.scheduler, plan.io_priority, plan.initial_cpus, plan.final_cpus,
            plan.memory_policy, plan.personality, plan.apparmor_profile, plan.selinux_label, plan.new_keyring,
            plan.stdio, plan.terminal, plan.preserve_descriptors, plan.init, plan.new_session,
            plan.parent_death_signal, plan.start_fifo, plan.cgroup_tasks, plan.cgroup_directory);
}

}  // namespace

std::string_view wire_format() { return FASTDOCK_WIRE_FORMAT; }

Result<std::string_view> of_this_format(std::string_view bytes, std::string_view what) {
  if (!bytes.starts_with(wire_format())) return failed_with(EPROTO, Operation::kParse, what);
  return bytes.substr(wire_format().size());
}

std::string to_bytes(const LaunchPlan& plan) {
  Writer writer;
  writer.out = wire_format();
  LaunchPlan copy = plan;  // visit() is one function for both directions, so it takes no const
  visit(writer, copy);
  return std::move(writer.out);
}

Result<LaunchPlan> from_bytes(std::string_view bytes) {
  FASTDOCK_TRY(bytes, of_this_format(bytes, "launch plan"));
  Reader reader(bytes);
  LaunchPlan plan;
  visit(reader, plan);
  if (!reader.good || !reader.rest.empty()) return failed_with(EINVAL, Operation::kParse, "launch plan");
  return plan;
}

}  // namespace fastdock::launch
