// The kernel's connection tracking: where a datagram was sent before the firewall changed its port.
#pragma once

#include <cstdint>
#include <optional>

#include "net/address.h"
#include "net/netlink.h"

namespace fastdock::net::relay {

struct Place {
  IpAddress address;
  std::uint16_t port = 0;
};

// For TCP a socket tells it (SO_ORIGINAL_DST); for UDP there is only this.  None: nobody knows this flow.
Result<std::optional<std::uint16_t>> original_udp_port(NetlinkSocket& netfilter, const Place& sender,
                                                       const Place& here);

}  // namespace fastdock::net::relay
