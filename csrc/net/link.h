// Devices, addresses and routes: rtnetlink requests, appended to a batch.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "net/address.h"
#include "net/netlink.h"

namespace fastdock::net {

struct Bridge {
  std::string name;
  std::vector<Prefix> addresses;  // the gateways of its networks
  std::optional<Mac> mac;         // fixed, or the bridge's address follows its ports'
  std::uint32_t mtu = 0;          // 0: the kernel's default
};

// Creates the bridge, or brings an existing one of this name into this state: up, with these addresses.  IPv6
// router advertisements from its ports are ignored (CVE-2020-13401) and 127.0.0.0/8 may be routed to it
// (published ports on localhost; the firewall drops what neighbours send there, CVE-2020-8558).  Returns its
// index.
Result<std::uint32_t> ensure_bridge(const Bridge& bridge);

// The device's index in the caller's network namespace; ENODEV when there is none.
Result<std::uint32_t> find_link(const std::string& name);

// The device of a VLAN (IEEE 802.1Q) on another device, unless it is there.
Result<void> ensure_vlan(const std::string& name, const std::string& parent, std::uint16_t number);

// Removes a device.  A missing one is success.
Result<void> remove_link(const std::string& name);

// A virtual Ethernet pair: `name` here, as a port of the bridge, and `peer_name` in the namespace.
struct VethPair {
  std::string name;
  std::string peer_name;
  Mac peer_mac{};
  int namespace_fd = -1;
  std::uint32_t bridge = 0;
  std::uint32_t mtu = 0;
  bool isolated = false;  // it reaches no other isolated port of the bridge (icc=false)
};
void create_veth(Batch& batch, const VethPair& pair);

// A macvlan device on `parent`, made directly in the namespace.
struct Macvlan {
  std::string name;
  Mac mac{};
  int namespace_fd = -1;
  std::uint32_t parent = 0;
  std::uint32_t mode = 0;  // MACVLAN_MODE_*; 0 means bridge
  std::uint32_t mtu = 0;
};
void create_macvlan(Batch& batch, const Macvlan& device);

// Removes the device in this batch; ENODEV comes back if there is none.
void remove_link(Batch& batch, const std::string& name);
void set_up(Batch& batch, const std::string& name);
void set_up(Batch& batch, std::uint32_t index, const std::string& name_for_errors);
void add_address(Batch& batch, std::uint32_t link, const Prefix& address);
void add_default_route(Batch& batch, std::uint32_t link, const IpAddress& gateway);

// Every address prefix that the caller's namespace has a route to, and the addresses of its devices: what a
// new network's subnet must not overlap.  The default routes are left out.
Result<std::vector<std::string>> used_prefixes();

}  // namespace fastdock::net
