#include "monitor/request.h"

#include <cerrno>

#include "base/archive.h"
#include "launch/wire.h"

namespace fastdock::monitor {
namespace {

using archive::visit;
using archive::visit_all;

// Of this namespace, so that the functions below are found for them (base/archive.h).
struct Writer : archive::Writer {};
struct Reader : archive::Reader {
  using archive::Reader::Reader;
};

template <class Archive>
void visit(Archive& archive, LaunchPlan& plan) {
  std::string bytes;
  if constexpr (!Archive::kReading) bytes = launch::to_bytes(plan);
  visit(archive, bytes);
  if constexpr (Archive::kReading) {
    auto read = launch::from_bytes(bytes);
    if (read) plan = std::move(*read);
    archive.good = archive.good && read.has_value();
  }
}

template <class Archive>
void visit(Archive& archive, cgroup::DeviceRule& rule) {
  visit_all(archive, rule.type, rule.major, rule.minor, rule.access, rule.allow);
}
template <class Archive>
void visit(Archive& archive, cgroup::DeviceWeight& value) {
  visit_all(archive, value.major, value.minor, value.weight);
}
template <class Archive>
void visit(Archive& archive, cgroup::DeviceRate& value) {
  visit_all(archive, value.major, value.minor, value.rate);
}
template <class Archive>
void visit(Archive& archive, cgroup::HugetlbLimit& value) {
  visit_all(archive, value.page_size, value.bytes);
}
template <class Archive>
void visit(Archive& archive, cgroup::RdmaLimit& value) {
  visit_all(archive, value.device, value.handles, value.objects);
}
template <class Archive>
void visit(Archive& archive, cgroup::NetworkPriority& value) {
  visit_all(archive, value.interface, value.priority);
}
template <class Archive>
void visit(Archive& archive, cgroup::Limits& l) {
  visit_all(archive, l.memory, l.memory_swap, l.memory_reservation, l.kernel_memory, l.kernel_memory_tcp,
            l.memory_swappiness, l.oom_kill_disable, l.cpu_shares, l.cpu_quota, l.cpu_period, l.cpu_burst,
            l.cpu_idle, l.cpu_rt_runtime, l.cpu_rt_period, l.cpuset_cpus, l.cpuset_mems, l.pids);
  visit_all(archive, l.blkio_weight, l.blkio_weight_device, l.blkio_read_bps, l.blkio_write_bps,
            l.blkio_read_iops, l.blkio_write_iops, l.hugetlb, l.rdma, l.network_class, l.network_priorities,
            l.devices, l.unified);
}
template <class Archive>
void visit(Archive& archive, net::IpAddress& value) {
  visit_all(archive, value.family, value.octets);
}
template <class Archive>
void visit(Archive& archive, net::Prefix& value) {
  visit_all(archive, value.address, value.length);
}
template <class Archive>
void visit(Archive& archive, net::Endpoint& e) {
  visit_all(archive, e.driver, e.device, e.host_name, e.name, e.mac, e.mtu, e.isolated, e.macvlan_mode,
            e.addresses, e.gateways);
}
template <class Archive>
void visit(Archive& archive, net::BridgeRules& rules) {
  visit_all(archive, rules.name, rules.internal, rules.masquerade, rules.icc);
}
template <class Archive>
void visit(Archive& archive, net::SenderRules& rules) {
  visit_all(archive, rules.port, rules.mac, rules.addresses);
}
template <class Archive>
void visit(Archive& archive, net::PortRules& rules) {
  visit_all(archive, rules.protocol, rules.host, rules.host_port, rules.container, rules.container_port,
            rules.relayed);
}
template <class Archive>
void visit(Archive& archive, net::EgressRules& rules) {
  visit_all(archive, rules.source, rules.allowed);
}
template <class Archive>
void visit(Archive& archive, net::AttachPlan& plan) {
  visit_all(archive, plan.scope.table, plan.scope.port_prefix, plan.endpoints, plan.firewall.bridges,
            plan.firewall.senders, plan.firewall.ports, plan.firewall.egress, plan.resolver_socket,
            plan.resolver_record, plan.sysctls);
}
template <class Archive>
void visit(Archive& archive, Restart& value) {
  visit_all(archive, value.policy, value.maximum);
}
template <class Archive>
void visit(Archive& archive, LogOptions& value) {
  visit_all(archive, value.driver, value.path, value.maximum_size, value.maximum_files, value.compress);
}
template <class Archive>
void visit(Archive& archive, HealthCheck& value) {
  visit_all(archive, value.probe, value.interval, value.timeout, value.start_period, value.start_interval,
            value.retries);
}
template <class Archive>
void visit(Archive& archive, Request& r) {
  visit_all(archive, r.places.state, r.places.run, r.places.cgroup_parent, r.id, r.attributes, r.plan,
            r.limits, r.restart, r.log, r.health, r.network, r.files, r.network_of, r.stop_signal,
            r.stop_timeout, r.open_stdin, r.stdin_once, r.remove, r.ids);
}
template <class Archive>
void visit(Archive& archive, Update& update) {
  visit_all(archive, update.limits, update.restart, update.network);
}

template <class T>
std::string write(const T& value) {
  Writer writer;
  writer.out = launch::wire_format();
  T copy = value;  // visit() is one function for both directions, so it takes no const
  visit(writer, copy);
  return std::move(writer.out);
}

template <class T>
Result<T> read(std::string_view bytes, const char* what) {
  FASTDOCK_TRY(bytes, launch::of_this_format(bytes, what));
  Reader reader(bytes);
  T value;
  visit(reader, value);
  if (!reader.good || !reader.rest.empty()) return failed_with(EINVAL, Operation::kParse, what);
  return value;
}

}  // namespace

void merge(cgroup::Limits& limits, const cgroup::Limits& changes) {
  auto take = [&](auto member) {
    auto& change = changes.*member;
    bool given = false;
    if constexpr (requires { change.has_value(); })
      given = change.has_value();
    else
      given = !change.empty();
    if (given) limits.*member = change;
  };
  using L = cgroup::Limits;
  auto take_all = [&](auto... members) { (take(members), ...); };
  take_all(&L::memory, &L::memory_swap, &L::memory_reservation, &L::kernel_memory, &L::kernel_memory_tcp,
           &L::memory_swappiness, &L::oom_kill_disable, &L::cpu_shares, &L::cpu_quota, &L::cpu_period,
           &L::cpu_burst, &L::cpu_idle, &L::cpu_rt_runtime, &L::cpu_rt_period, &L::cpuset_cpus,
           &L::cpuset_mems, &L::pids, &L::blkio_weight, &L::blkio_weight_device, &L::blkio_read_bps,
           &L::blkio_write_bps, &L::blkio_read_iops, &L::blkio_write_iops, &L::hugetlb, &L::unified);
}

std::string to_bytes(const Request& request) { return write(request); }
Result<Request> from_bytes(std::string_view bytes) { return read<Request>(bytes, "request to the monitor"); }
std::string to_bytes(const Update& update) { return write(update); }
Result<Update> update_from_bytes(std::string_view bytes) { return read<Update>(bytes, "update"); }

}  // namespace fastdock::monitor
