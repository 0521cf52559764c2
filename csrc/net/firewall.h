// fastdock's own nftables tables: "inet fastdock" (ports, masquerade, isolation, egress) and "bridge
// fastdock" (a container sends only from its own addresses).
//
// The rules are fixed (ruleset.cpp).  Networks, containers and ports are elements of sets and maps, looked up
// by hash: the thousandth published port costs a packet what the first does.  No other table is read or
// written.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "net/address.h"
#include "net/nft.h"

namespace fastdock::net {

// Which engine's tables: two engines with different roots on one machine keep apart.
struct Scope {
  std::string table = "fastdock";   // the name of both tables
  std::string port_prefix = "fdv";  // every bridge port whose name starts so is a container's
};

struct BridgeRules {
  std::string name;
  bool internal = false;   // nothing leaves, the host is not reached
  bool masquerade = true;  // leaves with the host's address
  bool icc = true;         // its containers reach each other
};

struct SenderRules {
  std::string port;  // the host's end of the veth pair
  Mac mac{};
  std::vector<IpAddress> addresses;  // with one of IPv6, the link-local address is allowed as well
};

struct PortRules {
  std::uint8_t protocol = 0;  // IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP
  IpAddress host;             // none: every address of the host, of the container address's family
  std::uint16_t host_port = 0;
  IpAddress container;
  std::uint16_t container_port = 0;
  bool relayed = false;  // an IPv6 port of the host for a container that has no IPv6 address
};

struct EgressRules {
  IpAddress source;  // the container's address; everything not allowed here is rejected
  std::vector<Prefix> allowed;
};

// Either everything there is (rebuild) or what one network or container adds.
struct FirewallRules {
  std::vector<BridgeRules> bridges;
  std::vector<SenderRules> senders;
  std::vector<PortRules> ports;
  std::vector<EgressRules> egress;
  std::uint16_t relay_port = 0;  // where fastdock-relay listens; 0: it does not run
};

// Makes both tables anew, with exactly these elements, in one transaction: no packet meets half of it.
Result<void> rebuild_firewall(const Scope& scope, const FirewallRules& rules);

// Whether both tables are as this version made them: somebody may have flushed or deleted them, their chains,
// rules or sets.  (Single elements that somebody has deleted are not missed: that takes a walk through all.)
Result<bool> firewall_is_current(const Scope& scope);

// Adds elements.  ENOENT: the tables are not there, rebuild.  EEXIST or EBUSY: a port is taken.
Result<void> add_rules(const Scope& scope, const FirewallRules& rules);

// Removes elements; those already gone, or tables already gone, are success.
Result<void> remove_rules(const Scope& scope, const FirewallRules& rules);

// Removes some elements and adds others, some of which may be there already, at once.
Result<void> replace_rules(const Scope& scope, const FirewallRules& gone, const FirewallRules& now);

// Allows one destination for a container with an egress policy for some seconds: the resolver calls it for
// the addresses behind an allowed name.
Result<void> allow_destination(const Scope& scope, const IpAddress& source, const IpAddress& destination,
                               std::uint32_t seconds);

// Takes back what allow_destination() opened for these sources, if they were a container's before: the time
// that it stays open is longer than the container may live, and its address becomes another's.
Result<void> forget_destinations(const Scope& scope, const std::vector<EgressRules>& guarded);

// Tells the firewall where fastdock-relay listens.
Result<void> set_relay_port(const Scope& scope, std::uint16_t port);

struct PublishedTarget {
  IpAddress container;
  std::uint16_t port = 0;
};

// Where a connection to this address and port of the host is to be relayed to; none: it is not published.
Result<std::optional<PublishedTarget>> relay_target(const Scope& scope, std::uint8_t protocol,
                                                    const IpAddress& host, std::uint16_t port);

// Whether anything is published on an IPv6 address.
Result<bool> is_relay_needed(const Scope& scope);

// Removes both tables.
Result<void> remove_firewall(const Scope& scope);

// ruleset.cpp: tables, sets, chains and rules into the transaction.
void add_ruleset(NftTransaction& transaction, const Scope& scope);
extern const std::string_view kRulesetVersion;

}  // namespace fastdock::net
