#include "net/link.h"

#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/path.h"

namespace fastdock::net {
namespace {

ifinfomsg link_header(unsigned flags = 0, std::uint32_t index = 0) {
  ifinfomsg header{};
  header.ifi_family = AF_UNSPEC;
  header.ifi_index = static_cast<int>(index);
  header.ifi_flags = flags;
  header.ifi_change = flags;
  return header;
}

// Without link-local addresses the port sends nothing of its own (no duplicate address detection, no MLD):
// a bridge port needs none.
void disable_address_generation(Batch& batch) {
  std::size_t families = batch.open(IFLA_AF_SPEC);
  std::size_t inet6 = batch.open(AF_INET6);
  batch.put_number<std::uint8_t>(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
  batch.close(inet6);
  batch.close(families);
}

// net.<family>.conf.<device>.<key> in the caller's network namespace.
Result<void> write_device_sysctl(const char* family, const std::string& device, const char* key,
                                 std::string_view value) {
  auto path = std::string("/proc/sys/net/") + family + "/conf/" + device + "/" + key;
  auto written = write_file(path, value);
  // A kernel booted with ipv6.disable=1 has no such file, and nothing to protect.
  if (!written && written.error().number == ENOENT && std::strcmp(family, "ipv6") == 0) return {};
  return written;
}

Result<void> create_bridge(NetlinkSocket& socket, const Bridge& bridge) {
  Batch batch;
  batch.begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, link_header(), Operation::kCreateLinkDevice,
              bridge.name);
  batch.put_string(IFLA_IFNAME, bridge.name);
  if (bridge.mac) batch.put(IFLA_ADDRESS, std::as_bytes(std::span(*bridge.mac)));
  if (bridge.mtu != 0) batch.put_number(IFLA_MTU, bridge.mtu);
  std::size_t info = batch.open(IFLA_LINKINFO);
  batch.put_string(IFLA_INFO_KIND, "bridge");
  std::size_t data = batch.open(IFLA_INFO_DATA);
  // No spanning tree, so a new port forwards at once.  No multicast snooping: without a querier it filters
  // nothing anyway (br_multicast_querier_exists()), and each new port would start its timers.
  batch.put_number<std::uint32_t>(IFLA_BR_STP_STATE, 0);
  batch.put_number<std::uint32_t>(IFLA_BR_FORWARD_DELAY, 0);
  batch.put_number<std::uint8_t>(IFLA_BR_MCAST_SNOOPING, 0);
  batch.close(data);
  batch.close(info);
  return socket.execute(batch);
}

}  // namespace

Result<std::uint32_t> find_link(const std::string& name) {
  std::uint32_t index = ::if_nametoindex(name.c_str());
  if (index == 0) return failed_with(ENODEV, Operation::kConfigureLinkDevice, name);
  return index;
}

Result<std::uint32_t> ensure_bridge(const Bridge& bridge) {
  FASTDOCK_TRY(auto socket, NetlinkSocket::open(NETLINK_ROUTE));
  if (auto created = create_bridge(socket, bridge); !created && created.error().number != EEXIST)
    return std::unexpected(created.error());
  FASTDOCK_TRY(auto index, find_link(bridge.name));
  // Before it comes up: an advertisement must not find it listening.
  FASTDOCK_CHECK(write_device_sysctl("ipv6", bridge.name, "accept_ra", "0"));
  // Its address comes from our database.  While the link-local one is tentative (a second), no neighbour is
  // found.
  FASTDOCK_CHECK(write_device_sysctl("ipv6", bridge.name, "accept_dad", "0"));
  FASTDOCK_CHECK(write_device_sysctl("ipv4", bridge.name, "route_localnet", "1"));
  Batch batch;
  for (const auto& address : bridge.addresses) add_address(batch, index, address);
  set_up(batch, index, bridge.name);
  FASTDOCK_CHECK(socket.execute(batch));
  return index;
}

Result<void> ensure_vlan(const std::string& name, const std::string& parent, std::uint16_t number) {
  if (find_link(name)) return {};
  FASTDOCK_TRY(auto index, find_link(parent));
  FASTDOCK_TRY(auto socket, NetlinkSocket::open(NETLINK_ROUTE));
  Batch batch;
  batch.begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, link_header(IFF_UP), Operation::kCreateLinkDevice,
              name);
  batch.put_string(IFLA_IFNAME, name);
  batch.put_number(IFLA_LINK, index);
  std::size_t info = batch.open(IFLA_LINKINFO);
  batch.put_string(IFLA_INFO_KIND, "vlan");
  std::size_t data = batch.open(IFLA_INFO_DATA);
  batch.put_number<std::uint16_t>(IFLA_VLAN_ID, number);
  batch.close(data);
  batch.close(info);
  auto created = socket.execute(batch);
  if (!created && created.error().number == EEXIST) return {};  // another process was faster
  return created;
}

void create_veth(Batch& batch, const VethPair& pair) {
  batch.begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, link_header(), Operation::kCreateLinkDevice, pair.name);
  batch.put_string(IFLA_IFNAME, pair.name);
  if (pair.mtu != 0) batch.put_number(IFLA_MTU, pair.mtu);
  batch.put_number<std::uint32_t>(IFLA_NUM_TX_QUEUES, 1);  // each queue is sysfs objects and uevents
  batch.put_number<std::uint32_t>(IFLA_NUM_RX_QUEUES, 1);
  std::size_t info = batch.open(IFLA_LINKINFO);
  batch.put_string(IFLA_INFO_KIND, "veth");
  std::size_t data = batch.open(IFLA_INFO_DATA);
  std::size_t peer = batch.open(VETH_INFO_PEER);
  batch.put_structure(link_header());
  batch.put_string(IFLA_IFNAME, pair.peer_name);
  batch.put(IFLA_ADDRESS, std::as_bytes(std::span(pair.peer_mac)));
  if (pair.mtu != 0) batch.put_number(IFLA_MTU, pair.mtu);
  batch.put_number<std::uint32_t>(IFLA_NUM_TX_QUEUES, 1);
  batch.put_number<std::uint32_t>(IFLA_NUM_RX_QUEUES, 1);
  batch.put_number<std::int32_t>(IFLA_NET_NS_FD, pair.namespace_fd);
  batch.close(peer);
  batch.close(data);
  batch.close(info);

  // The kernel applies a change's flags before its address generation mode, so the mode goes first.
  batch.begin(RTM_NEWLINK, 0, link_header(), Operation::kConfigureLinkDevice, pair.name);
  batch.put_string(IFLA_IFNAME, pair.name);
  batch.put_number(IFLA_MASTER, pair.bridge);
  disable_address_generation(batch);
  batch.begin(RTM_NEWLINK, 0, link_header(IFF_UP), Operation::kConfigureLinkDevice, pair.name);
  batch.put_string(IFLA_IFNAME, pair.name);
  std::size_t slave = batch.open(IFLA_LINKINFO);
  batch.put_string(IFLA_INFO_SLAVE_KIND, "bridge");
  std::size_t port = batch.open(IFLA_INFO_SLAVE_DATA);
  // Back out of the port it came in by ("hairpin"): a container that asks for its own published port, where
  // bridged packets pass iptables (br_netfilter), is translated in the bridge and never meets the host's
  // routes.
  batch.put_number<std::uint8_t>(IFLA_BRPORT_MODE, 1);
  if (pair.isolated) batch.put_number<std::uint8_t>(IFLA_BRPORT_ISOLATED, 1);
  batch.close(port);
  batch.close(slave);
}

void create_macvlan(Batch& batch, const Macvlan& device) {
  batch.begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, link_header(), Operation::kCreateLinkDevice,
              device.name);
  batch.put_string(IFLA_IFNAME, device.name);
  batch.put_number(IFLA_LINK, device.parent);
  batch.put(IFLA_ADDRESS, std::as_bytes(std::span(device.mac)));
  if (device.mtu != 0) batch.put_number(IFLA_MTU, device.mtu);
  batch.put_number<std::int32_t>(IFLA_NET_NS_FD, device.namespace_fd);
  std::size_t info = batch.open(IFLA_LINKINFO);
  batch.put_string(IFLA_INFO_KIND, "macvlan");
  std::size_t data = batch.open(IFLA_INFO_DATA);
  std::uint32_t bridge_mode = MACVLAN_MODE_BRIDGE;
  batch.put_number(IFLA_MACVLAN_MODE, device.mode != 0 ? device.mode : bridge_mode);
  batch.close(data);
  batch.close(info);
}

void remove_link(Batch& batch, const std::string& name) {
  batch.begin(RTM_DELLINK, 0, link_header(), Operation::kRemoveLinkDevice, name);
  batch.put_string(IFLA_IFNAME, name);
}

Result<void> remove_link(const std::string& name) {
  FASTDOCK_TRY(auto socket, NetlinkSocket::open(NETLINK_ROUTE));
  Batch batch;
  remove_link(batch, name);
  auto removed = socket.execute(batch);
  if (!removed && removed.error().number == ENODEV) return {};
  return removed;
}

void set_up(Batch& batch, const std::string& name) {
  batch.begin(RTM_NEWLINK, 0, link_header(IFF_UP), Operation::kConfigureLinkDevice, name);
  batch.put_string(IFLA_IFNAME, name);
}

void set_up(Batch& batch, std::uint32_t index, const std::string& name_for_errors) {
  batch.begin(RTM_NEWLINK, 0, link_header(IFF_UP, index), Operation::kConfigureLinkDevice, name_for_errors);
}

void add_address(Batch& batch, std::uint32_t link, const Prefix& prefix) {
  ifaddrmsg header{};
  header.ifa_family = prefix.address.family;
  header.ifa_prefixlen = prefix.length;
  header.ifa_index = link;
  // The database already guarantees that the address is free, and a tentative address cannot be used for a
  // second: no duplicate address detection.
  header.ifa_flags = prefix.address.family == AF_INET6 ? IFA_F_NODAD : 0;
  batch.begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, header, Operation::kAddAddress,
              to_text(prefix.address));
  batch.put(IFA_LOCAL, prefix.address.bytes());
  batch.put(IFA_ADDRESS, prefix.address.bytes());
  if (prefix.address.family == AF_INET && prefix.length < 31)
    batch.put(IFA_BROADCAST, last_of(prefix).bytes());
}

void add_default_route(Batch& batch, std::uint32_t link, const IpAddress& gateway) {
  rtmsg header{};
  header.rtm_family = gateway.family;
  header.rtm_table = RT_TABLE_MAIN;
  header.rtm_protocol = RTPROT_BOOT;
  header.rtm_scope = RT_SCOPE_UNIVERSE;
  header.rtm_type = RTN_UNICAST;
  batch.begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, header, Operation::kAddRoute,
              "default via " + to_text(gateway));
  batch.put(RTA_GATEWAY, gateway.bytes());
  batch.put_number(RTA_OIF, link);
}

Result<std::vector<std::string>> used_prefixes() {
  FASTDOCK_TRY(auto socket, NetlinkSocket::open(NETLINK_ROUTE));
  std::vector<std::string> found;
  for (std::uint8_t family : {std::uint8_t{AF_INET}, std::uint8_t{AF_INET6}}) {
    rtmsg header{};
    header.rtm_family = family;
    Batch batch;
    batch.begin(RTM_GETROUTE, NLM_F_DUMP, header, Operation::kAddRoute, "the routes");
    FASTDOCK_CHECK(socket.ask(batch, [&](std::uint16_t, Bytes message) {
      rtmsg route{};
      if (message.size() < sizeof route) return;
      std::memcpy(&route, message.data(), sizeof route);
      if (route.rtm_dst_len == 0) return;
      for_each_attribute(message.subspan(NLMSG_ALIGN(sizeof route)), [&](std::uint16_t type, Bytes value) {
        if (type != RTA_DST || value.size() > 16) return;
        IpAddress address{family, {}};
        std::memcpy(address.octets.data(), value.data(), value.size());
        found.push_back(to_text(address) + "/" + std::to_string(route.rtm_dst_len));
      });
    }));
  }
  return found;
}

}  // namespace fastdock::net
