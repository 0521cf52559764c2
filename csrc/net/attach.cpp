#include "net/attach.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "base/path.h"
#include "net/link.h"
#include "net/netlink.h"
#include "net/resolver_client.h"

namespace fastdock::net {
namespace {

constexpr std::uint32_t kLoopback = 1;  // its index in every network namespace (net_dev_init)

// What is made inside the container's namespace.
struct Inside {
  std::optional<NetlinkSocket> netlink;
  ResolverSockets resolver;
};

// Defaults for the devices that will appear in this namespace.  Router advertisements come from neighbours,
// who are not to be believed (CVE-2020-13401).  Without an IPv6 address a container has no IPv6 at all, as
// with Docker.
Result<void> set_defaults(bool inet6) {
  auto defaults = open_file("/proc/sys/net/ipv6/conf/default", O_PATH | O_DIRECTORY);
  if (!defaults && defaults.error().number == ENOENT) return {};  // booted with ipv6.disable=1
  if (!defaults) return std::unexpected(defaults.error());
  struct statfs file_system{};
  if (::fstatfs(defaults->get(), &file_system) != 0 || file_system.f_type != PROC_SUPER_MAGIC)
    return failed_with(EPERM, Operation::kCheckProcfs, "/proc/sys/net");
  if (inet6) {
    FASTDOCK_CHECK(write_file_at(defaults->get(), "accept_ra", "0"));
    // Addresses are the database's; a tentative one (duplicate address detection) is of no use for a second.
    FASTDOCK_CHECK(write_file_at(defaults->get(), "accept_dad", "0"));
  }
  return write_file_at(defaults->get(), "disable_ipv6", inet6 ? "0" : "1");
}

// What has to be made inside; afterwards it is used from the host's namespace.
Result<Inside> enter(int namespace_fd, bool inet6, bool resolver) {
  FASTDOCK_TRY(auto visit, NamespaceVisit::begin(namespace_fd));
  Inside inside;
  FASTDOCK_CHECK(set_defaults(inet6));
  FASTDOCK_TRY(inside.netlink, NetlinkSocket::open(NETLINK_ROUTE));
  Batch loopback;
  set_up(loopback, kLoopback, "lo");
  FASTDOCK_CHECK(inside.netlink->execute(loopback));
  if (resolver) {
    // With the loopback device up: a socket bound before that would answer from 127.0.0.1 (a namespace
    // without a local routing table takes every address for a broadcast one, __inet_dev_addr_type()).
    FASTDOCK_TRY(inside.resolver, open_resolver_sockets());
  }
  return inside;
}

Result<void> create_devices(NetlinkSocket& socket, const AttachPlan& plan, int namespace_fd) {
  Batch batch;
  for (const auto& endpoint : plan.endpoints) {
    FASTDOCK_TRY(auto device, socket.index_of(endpoint.device));
    if (endpoint.driver == Driver::kMacvlan) {
      create_macvlan(batch, {.name = endpoint.name,
                             .mac = endpoint.mac,
                             .namespace_fd = namespace_fd,
                             .parent = device,
                             .mode = endpoint.macvlan_mode,
                             .mtu = endpoint.mtu});
    } else {
      create_veth(batch, {.name = endpoint.host_name,
                          .peer_name = endpoint.name,
                          .peer_mac = endpoint.mac,
                          .namespace_fd = namespace_fd,
                          .bridge = device,
                          .mtu = endpoint.mtu,
                          .isolated = endpoint.isolated});
    }
  }
  auto created = socket.execute(batch);
  // The names are the container's own, so it is its last life's device that has one of them: the kernel takes
  // devices down some time after their namespace's last process has ended (cleanup_net()).
  if (!created && created.error().number == EEXIST) {
    for (const auto& endpoint : plan.endpoints)
      if (endpoint.driver == Driver::kBridge) FASTDOCK_CHECK(remove_link(endpoint.host_name));
    FASTDOCK_TRY(socket, NetlinkSocket::open(NETLINK_ROUTE));  // the old one holds further answers
    created = socket.execute(batch);
  }
  // A bridge takes 1,023 ports (BR_MAX_PORTS); the kernel says EXFULL.
  if (!created && created.error().number == EXFULL) created.error().hint = Hint::kBridgeFull;
  return created;
}

Result<void> configure_inside(NetlinkSocket& socket, const std::vector<Endpoint>& endpoints) {
  Batch batch;
  for (const auto& endpoint : endpoints) {
    FASTDOCK_TRY(auto index, socket.index_of(endpoint.name));
    set_up(batch, index, endpoint.name);
    for (const auto& address : endpoint.addresses) add_address(batch, index, address);
    for (const auto& gateway : endpoint.gateways) add_default_route(batch, index, gateway);
  }
  return socket.execute(batch);
}

// The kernel notices that both ends of a pair are up on a worker (linkwatch) that waits for the RTNL lock,
// which the end of another container may hold for long.  Until then the bridge takes nothing from the port,
// and a first SYN that is lost costs a second.  Asking for the device makes it happen now (rtnl_getlink(),
// Linux 6.8).
Result<void> notice_link(NetlinkSocket& socket, const std::string& name) {
  Batch batch;
  batch.begin(RTM_GETLINK, NLM_F_ACK, ifinfomsg{}, Operation::kConfigureLinkDevice, name);
  batch.put_string(IFLA_IFNAME, name);
  batch.put_number<std::uint32_t>(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  return socket.ask(batch, {});
}

// The bridge believes an address where it saw it last, which may be the port of the container's last life.
Result<void> settle_ports(NetlinkSocket& socket, const AttachPlan& plan) {
  Batch batch;
  for (const auto& endpoint : plan.endpoints) {
    if (endpoint.driver != Driver::kBridge) continue;
    FASTDOCK_CHECK(notice_link(socket, endpoint.host_name));
    FASTDOCK_TRY(auto port, socket.index_of(endpoint.host_name));
    ndmsg entry{};
    entry.ndm_family = AF_BRIDGE;
    entry.ndm_ifindex = static_cast<std::int32_t>(port);
    entry.ndm_state = NUD_NOARP;  // stays as long as the port
    entry.ndm_flags = NTF_MASTER;
    batch.begin(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, entry, Operation::kConfigureLinkDevice,
                endpoint.host_name);
    batch.put(NDA_LLADDR, std::as_bytes(std::span(endpoint.mac)));
  }
  if (batch.empty()) return {};
  return socket.execute(batch);
}

Result<void> write_sysctls(const AttachPlan& plan, int namespace_fd) {
  if (plan.sysctls.empty()) return {};
  FASTDOCK_TRY(auto directory, open_file("/proc/sys", O_PATH | O_DIRECTORY));
  struct statfs file_system{};
  if (::fstatfs(directory.get(), &file_system) != 0 || file_system.f_type != PROC_SUPER_MAGIC)
    return failed_with(EPERM, Operation::kCheckProcfs, "/proc/sys");
  FASTDOCK_TRY(auto visit, NamespaceVisit::begin(namespace_fd));
  for (const auto& [path, value] : plan.sysctls) {
    auto written = write_file_at(directory.get(), path, value);
    if (!written) return failed_with(written.error().number, Operation::kWriteSysctl, path);
  }
  return {};
}

bool uses_inet6(const AttachPlan& plan) {
  return std::ranges::any_of(plan.endpoints, [](const auto& endpoint) {
    return std::ranges::any_of(endpoint.addresses,
                               [](const auto& a) { return a.address.family == AF_INET6; });
  });
}

Result<void> attach_all(const AttachPlan& plan, int namespace_fd, int process) {
  FASTDOCK_TRY(auto inside, enter(namespace_fd, uses_inet6(plan), !plan.resolver_socket.empty()));
  FASTDOCK_TRY(auto host, NetlinkSocket::open(NETLINK_ROUTE));
  FASTDOCK_CHECK(create_devices(host, plan, namespace_fd));
  // What was opened for the last container that had one of these addresses is not this one's.
  FASTDOCK_CHECK(forget_destinations(plan.scope, plan.firewall.egress));
  // Before the container can send: what it sends is refused until its own addresses are known.
  FASTDOCK_CHECK(add_rules(plan.scope, plan.firewall));
  FASTDOCK_CHECK(configure_inside(*inside.netlink, plan.endpoints));
  FASTDOCK_CHECK(write_sysctls(plan, namespace_fd));
  FASTDOCK_CHECK(settle_ports(host, plan));
  if (plan.resolver_socket.empty()) return {};
  return register_container(plan.resolver_socket, plan.resolver_record, inside.resolver, process);
}

}  // namespace

Result<NamespaceVisit> NamespaceVisit::begin(int namespace_fd) {
  FASTDOCK_TRY(auto home, open_file("/proc/thread-self/ns/net", O_RDONLY));
  if (::setns(namespace_fd, CLONE_NEWNET) != 0) return failed(Operation::kJoinNamespace, "network");
  return NamespaceVisit(std::move(home));
}

NamespaceVisit::~NamespaceVisit() {
  // With the privileges that were enough a moment ago it cannot fail; a thread that went on in a container's
  // namespace would take the container for the world.
  if (home_ && ::setns(home_.get(), CLONE_NEWNET) != 0) std::abort();
}

Result<void> attach(const AttachPlan& plan, int namespace_fd, int process) {
  auto attached = attach_all(plan, namespace_fd, process);
  if (!attached) (void)detach(plan);  // the first error is the one to report
  return attached;
}

namespace {

struct Target {
  Fd namespace_fd, process;
};

Result<Target> open_process(pid_t pid) {
  Target target;
  FASTDOCK_TRY(target.namespace_fd, open_file("/proc/" + std::to_string(pid) + "/ns/net", O_RDONLY));
  target.process.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!target.process) return failed(Operation::kWaitForProcess, std::to_string(pid));
  return target;
}

}  // namespace

Result<void> attach_process(const AttachPlan& plan, pid_t pid) {
  FASTDOCK_TRY(auto target, open_process(pid));
  return attach(plan, target.namespace_fd.get(), target.process.get());
}

Result<void> reconnect_resolver(const AttachPlan& plan, pid_t pid) {
  FASTDOCK_TRY(auto target, open_process(pid));
  FASTDOCK_TRY(auto inside, enter(target.namespace_fd.get(), uses_inet6(plan), true));
  return register_container(plan.resolver_socket, plan.resolver_record, inside.resolver,
                            target.process.get());
}

Result<void> add_default_routes(pid_t pid, const std::string& device,
                                const std::vector<IpAddress>& gateways) {
  FASTDOCK_TRY(auto target, open_process(pid));
  std::optional<NetlinkSocket> inside;
  {
    FASTDOCK_TRY(auto visit, NamespaceVisit::begin(target.namespace_fd.get()));
    FASTDOCK_TRY(inside, NetlinkSocket::open(NETLINK_ROUTE));
  }
  FASTDOCK_TRY(auto index, inside->index_of(device));
  Batch batch;
  for (const auto& gateway : gateways) add_default_route(batch, index, gateway);
  return inside->execute(batch);
}

Result<void> attach_loopback(int namespace_fd) {
  FASTDOCK_CHECK(enter(namespace_fd, true, false));
  return {};
}

Result<void> release(const AttachPlan& plan) { return remove_rules(plan.scope, plan.firewall); }

Result<void> detach(const AttachPlan& plan) {
  // Ports first: nothing new is sent to an address that will soon be another container's.
  Result<void> first = release(plan);
  for (const auto& endpoint : plan.endpoints) {
    // A macvlan device ends with the container's namespace; the host has nothing of it.
    if (endpoint.driver != Driver::kBridge) continue;
    auto removed = remove_link(endpoint.host_name);
    if (!removed && first) first = std::move(removed);
  }
  return first;
}

}  // namespace fastdock::net
