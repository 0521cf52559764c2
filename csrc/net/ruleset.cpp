// The fixed part of the firewall: sets, chains and rules.  `nft list table inet fastdock` prints them.
//
// Chains run before those of others at the same hook (priority -5 where iptables has 0), but a packet that we
// accept still meets the others': theirs may drop it, which is their administrator's right.
#include <netinet/in.h>
// clang-format off: the C library's addresses before the kernel's headers that define them too
#include <linux/if_ether.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter_bridge.h>
#include <linux/rtnetlink.h>
// clang-format on

#include "net/firewall.h"

namespace fastdock::net {

// Goes up with every change below: an engine that finds another version makes the tables anew.
const std::string_view kRulesetVersion = "fastdock rules 5";

namespace {

constexpr std::int32_t kPriorityRaw = -300, kPriorityDnat = -100, kPrioritySnat = 100, kPriorityFilter = -5;

// ct state, as nft's "ct state" is made: 1 << (state + 1), invalid is 1.
constexpr std::uint8_t kInvalid = 1, kEstablishedOrRelated = 2 | 4;

class Writer {
 public:
  Writer(NftTransaction& transaction, std::uint8_t family, const std::string& table)
      : transaction_(transaction), family_(family), table_(table) {}

  void set(const char* name, std::vector<NftType> key, std::vector<NftType> data = {},
           std::uint32_t flags = 0) {
    NftTransaction::Set made{name, std::move(key), std::move(data), flags};
    transaction_.add_set(family_, table_, made);
    if (!(flags & NFT_SET_TIMEOUT)) transaction_.add_mark(family_, table_, made);  // those run out anyway
  }
  void chain(const char* name) { transaction_.add_chain(family_, table_, name); }
  void chain(const char* name, std::string_view type, std::uint32_t hook, std::int32_t priority) {
    transaction_.add_chain(family_, table_, name, NftTransaction::Hook{type, hook, priority});
  }
  NftRule rule(const char* chain) { return {transaction_, family_, table_, chain}; }

 private:
  NftTransaction& transaction_;
  std::uint8_t family_;
  const std::string& table_;
};

// --- the inet table ---

void add_inet_sets(Writer& table) {
  using enum NftType;
  table.set("bridges", {kInterface});
  table.set("internal", {kInterface});
  table.set("masquerade", {kInterface});
  table.set("same", {kInterface, kInterface});  // (bridge, same bridge): nft cannot compare two registers
  table.set("icc", {kInterface, kInterface});   // those of them where containers reach each other
  table.set("ports4", {kProtocol, kService}, {kIpv4, kService});
  table.set("ports6", {kProtocol, kService}, {kIpv6, kService});
  table.set("ports4_at", {kIpv4, kProtocol, kService}, {kIpv4, kService});
  table.set("ports6_at", {kIpv6, kProtocol, kService}, {kIpv6, kService});
  // IPv6 ports of the host that a process passes on (relay/relay.h), and the port where it listens.
  table.set("relayed", {kProtocol, kService}, {kIpv4, kService});
  table.set("relayed_at", {kIpv6, kProtocol, kService}, {kIpv4, kService});
  table.set("relay", {kProtocol}, {kService});
  table.set("self4", {kIpv4, kIpv4});  // (container, same container), of those with published ports
  table.set("self6", {kIpv6, kIpv6});
  table.set("guarded4", {kIpv4});
  table.set("guarded6", {kIpv6});
  table.set("allowed4", {kIpv4, kIpv4}, {}, NFT_SET_INTERVAL);
  table.set("allowed6", {kIpv6, kIpv6}, {}, NFT_SET_INTERVAL);
  table.set("named4", {kIpv4, kIpv4}, {}, NFT_SET_TIMEOUT);
  table.set("named6", {kIpv6, kIpv6}, {}, NFT_SET_TIMEOUT);
}

NftRule& family(NftRule&& rule, std::uint8_t family) {
  return rule.meta(NFT_META_NFPROTO, 15).equals(15, {family});
}
NftRule& source4(NftRule& rule, std::uint32_t slot) {
  return rule.payload(NFT_PAYLOAD_NETWORK_HEADER, 12, 4, slot);
}
NftRule& source6(NftRule& rule, std::uint32_t slot) {
  return rule.payload(NFT_PAYLOAD_NETWORK_HEADER, 8, 16, slot);
}
NftRule& target4(NftRule& rule, std::uint32_t slot) {
  return rule.payload(NFT_PAYLOAD_NETWORK_HEADER, 16, 4, slot);
}
NftRule& target6(NftRule& rule, std::uint32_t slot) {
  return rule.payload(NFT_PAYLOAD_NETWORK_HEADER, 24, 16, slot);
}

// Whether a new IPv6 connection is to a port in this map: go there.
void go_if_published(Writer& table, const char* from, const char* map, const char* to) {
  bool at = std::string_view(map).ends_with("_at");
  auto rule = table.rule(from);
  rule.meta(NFT_META_NFPROTO, 15).equals(15, {NFPROTO_IPV6});
  if (at) target6(rule, 0);
  std::uint32_t slot = at ? 4 : 0;
  rule.meta(NFT_META_L4PROTO, slot)
      .payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, slot + 1)
      .look_up(map, 0, 8)
      .go(to);
}

// IPv6 that cannot be translated: to a container without an IPv6 address, and from ::1 (IPv6 has no
// counterpart of route_localnet: an answer to ::1 would be dropped on its way back).  Such a connection goes
// to the same address of the host, at the port of fastdock-relay, which asks for its original destination and
// connects to the container.  While it does not run, the connection is refused, as if nothing were published.
void add_relay_rules(Writer& table) {
  table.chain("to_relay");
  table.rule("to_relay").meta(NFT_META_L4PROTO, 0).look_up("relay", 0, 0).redirect_to_port(NFPROTO_IPV6, 0);
  table.chain("to_loopback6");
  for (const char* map : {"relayed_at", "ports6_at", "relayed", "ports6"})
    go_if_published(table, "to_loopback6", map, "to_relay");
}

// Which of the host's ports lead to which container.
void add_port_rules(Writer& table) {
  table.chain("prerouting", "nat", NF_INET_PRE_ROUTING, kPriorityDnat);
  table.chain("output", "nat", NF_INET_LOCAL_OUT, kPriorityDnat);
  table.chain("ports");
  // Nobody outside reaches a port that is published on 127.0.0.1 (CVE-2020-8558): the kernel refuses such
  // packets when it routes them, but translation comes before routing.
  target4(family(table.rule("prerouting"), NFPROTO_IPV4), 0)
      .mask(0, {0xff, 0, 0, 0})
      .equals(0, {127, 0, 0, 0})
      .leave();
  add_relay_rules(table);
  target6(family(table.rule("output"), NFPROTO_IPV6), 0)
      .equals(0, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1})
      .go("to_loopback6");
  for (const char* chain : {"prerouting", "output"})
    table.rule(chain).address_type_of_destination(0).equals(0, {RTN_LOCAL, 0, 0, 0}).go("ports");
  // The port bound to one address first, then the one bound to all.  The destination port is at the same
  // place in the headers of TCP, UDP and SCTP; other protocols are not in the maps.
  target4(family(table.rule("ports"), NFPROTO_IPV4), 0)
      .meta(NFT_META_L4PROTO, 1)
      .payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, 2)
      .look_up("ports4_at", 0, 0)
      .redirect_to(NFPROTO_IPV4, 0, 1);
  family(table.rule("ports"), NFPROTO_IPV4)
      .meta(NFT_META_L4PROTO, 0)
      .payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, 1)
      .look_up("ports4", 0, 0)
      .redirect_to(NFPROTO_IPV4, 0, 1);
  go_if_published(table, "ports", "relayed_at", "to_relay");
  target6(family(table.rule("ports"), NFPROTO_IPV6), 0)
      .meta(NFT_META_L4PROTO, 4)
      .payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, 5)
      .look_up("ports6_at", 0, 0)
      .redirect_to(NFPROTO_IPV6, 0, 4);
  family(table.rule("ports"), NFPROTO_IPV6)
      .meta(NFT_META_L4PROTO, 0)
      .payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, 1)
      .look_up("ports6", 0, 0)
      .redirect_to(NFPROTO_IPV6, 0, 4);
  go_if_published(table, "ports", "relayed", "to_relay");
}

// Whose address a packet leaves with.  "iifname" is known here since Linux 5.7 (commit 28f8bfd1ac94).
void add_source_rules(Writer& table) {
  table.chain("postrouting", "nat", NF_INET_POST_ROUTING, kPrioritySnat);
  table.chain("to_container");
  table.rule("postrouting").meta(NFT_META_OIFNAME, 0).in("bridges", 0).go("to_container");
  table.rule("postrouting").meta(NFT_META_IIFNAME, 0).in("masquerade", 0).masquerade();
  // From the host's 127.0.0.1 to a published port: the container could not answer there.
  source4(family(table.rule("to_container"), NFPROTO_IPV4), 0)
      .mask(0, {0xff, 0, 0, 0})
      .equals(0, {127, 0, 0, 0})
      .masquerade();
  // From a container to a published port of its own network ("hairpin"): the answer must come back this way.
  // (Where bridged packets pass iptables, net.bridge.bridge-nf-call-iptables, the kernel translates them in
  // the bridge and calls this hook without an input device: then the answer passes there as well, and the
  // address is kept, but for a container that asks for its own port: nothing takes packets from its own
  // address.)
  {
    auto rule = table.rule("to_container");
    target4(source4(family(std::move(rule), NFPROTO_IPV4), 0), 1).in("self4", 0).masquerade();
  }
  {
    auto rule = table.rule("to_container");
    target6(source6(family(std::move(rule), NFPROTO_IPV6), 0), 4).in("self6", 0).masquerade();
  }
  table.rule("to_container")
      .ct(NFT_CT_STATUS, 0)
      .mask(0, {IPS_DST_NAT, 0, 0, 0})
      .differs(0, {0, 0, 0, 0})
      .meta(NFT_META_IIFNAME, 0)
      .meta(NFT_META_OIFNAME, 4)
      .in("same", 0)
      .masquerade();
}

// First in a base chain: nearly every packet belongs to a connection, and so costs one look at its state. For
// what is not ours to judge, "accept" here is as good as running off the end.
void accept_established(Writer& table, const char* chain) {
  table.rule(chain)
      .ct(NFT_CT_STATE, 0)
      .mask(0, {kEstablishedOrRelated, 0, 0, 0})
      .differs(0, {0, 0, 0, 0})
      .accept();
}

// Untracked leftovers of a connection would leave with the container's own address.
void drop_invalid(Writer& table, const char* chain) {
  table.rule(chain).ct(NFT_CT_STATE, 0).mask(0, {kInvalid, 0, 0, 0}).differs(0, {0, 0, 0, 0}).drop();
}

void add_policy_jumps(Writer& table, const char* chain) {
  table.rule(chain).meta(NFT_META_IIFNAME, 0).in("internal", 0).drop();
  source4(family(table.rule(chain), NFPROTO_IPV4), 0).in("guarded4", 0).go("egress4");
  source6(family(table.rule(chain), NFPROTO_IPV6), 0).in("guarded6", 0).go("egress6");
  table.rule(chain).accept();
}

// Who may talk to whom, for what passes through the host and what goes to the host itself.
void add_forward_rules(Writer& table) {
  table.chain("egress4");
  table.chain("egress6");
  {
    auto rule = table.rule("egress4");
    target4(source4(rule, 0), 1).in("named4", 0).accept();
  }
  {
    auto rule = table.rule("egress4");
    target4(source4(rule, 0), 1).in("allowed4", 0).accept();
  }
  table.rule("egress4").reject();
  {
    auto rule = table.rule("egress6");
    target6(source6(rule, 0), 4).in("named6", 0).accept();
  }
  {
    auto rule = table.rule("egress6");
    target6(source6(rule, 0), 4).in("allowed6", 0).accept();
  }
  table.rule("egress6").reject();

  table.chain("outbound");
  drop_invalid(table, "outbound");
  add_policy_jumps(table, "outbound");

  // A container is reached from its own network and through published ports.  Not by a neighbour
  // of the host that sends to the container's address with the host as its gateway (moby issue 45610), nor
  // from another network.
  table.chain("inbound");
  drop_invalid(table, "inbound");
  table.rule("inbound").meta(NFT_META_IIFNAME, 0).meta(NFT_META_OIFNAME, 4).in("icc", 0).accept();
  table.rule("inbound")
      .ct(NFT_CT_STATUS, 0)
      .mask(0, {IPS_DST_NAT, 0, 0, 0})
      .differs(0, {0, 0, 0, 0})
      .go("outbound");
  table.rule("inbound").drop();

  table.chain("forward", "filter", NF_INET_FORWARD, kPriorityFilter);
  accept_established(table, "forward");
  table.rule("forward").meta(NFT_META_OIFNAME, 0).in("bridges", 0).go("inbound");
  table.rule("forward").meta(NFT_META_IIFNAME, 0).in("bridges", 0).go("outbound");

  table.chain("to_host");
  drop_invalid(table, "to_host");
  // Neighbour discovery, and ping to the gateway.
  table.rule("to_host").meta(NFT_META_L4PROTO, 0).equals(0, {IPPROTO_ICMP}).accept();
  table.rule("to_host").meta(NFT_META_L4PROTO, 0).equals(0, {IPPROTO_ICMPV6}).accept();
  add_policy_jumps(table, "to_host");
  table.chain("input", "filter", NF_INET_LOCAL_IN, kPriorityFilter);
  accept_established(table, "input");
  table.rule("input").meta(NFT_META_IIFNAME, 0).in("bridges", 0).go("to_host");

  // route_localnet is on for our bridges, so the kernel itself no longer refuses 127.0.0.0/8 from there.
  // Before connection tracking: answers to the host's own 127.0.0.1 carry the bridge's address until they are
  // translated.
  table.chain("raw", "filter", NF_INET_PRE_ROUTING, kPriorityRaw);
  for (std::uint32_t offset : {12U, 16U})
    family(table.rule("raw"), NFPROTO_IPV4)
        .payload(NFT_PAYLOAD_NETWORK_HEADER, offset, 4, 4)
        .mask(4, {0xff, 0, 0, 0})
        .equals(4, {127, 0, 0, 0})
        .meta(NFT_META_IIFNAME, 0)
        .in("bridges", 0)
        .drop();
}

// --- the bridge table: what a container may send at all ---

constexpr std::uint8_t kNdSolicit = 135, kNdAdvert = 136, kMld1Report = 131, kMld2Report = 143;

NftRule& frame(NftRule&& rule, std::uint16_t type) {  // of this ethertype; a VLAN tag is another one
  return rule.payload(NFT_PAYLOAD_LL_HEADER, 12, 2, 15)
      .equals(15, {static_cast<std::uint8_t>(type >> 8), static_cast<std::uint8_t>(type & 0xff)});
}
NftRule& sender(NftRule& rule) {  // port . source MAC, into slots 0 to 5
  return rule.meta(NFT_META_IIFNAME, 0).payload(NFT_PAYLOAD_LL_HEADER, 6, 6, 4);
}
NftRule& icmp6(NftRule& rule, std::uint8_t type) {
  return rule.meta(NFT_META_L4PROTO, 15)
      .equals(15, {IPPROTO_ICMPV6})
      .payload(NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, 15)
      .equals(15, {type});
}
NftRule& from_nobody(NftRule& rule) {
  return source6(rule, 0).equals(0, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
}

void add_bridge_rules(Writer& table, const Scope& scope) {
  using enum NftType;
  table.set("macs", {kInterface, kEther});
  table.set("senders4", {kInterface, kEther, kIpv4});
  table.set("senders6", {kInterface, kEther, kIpv6});
  table.chain("prerouting", "filter", NF_BR_PRE_ROUTING, kPriorityRaw);
  table.chain("from_container");
  table.rule("prerouting").meta(NFT_META_IIFNAME, 0).equals(0, scope.port_prefix, false).go("from_container");

  source4(sender(frame(table.rule("from_container"), ETH_P_IP)), 6).in("senders4", 0).accept();
  // ARP: for Ethernet and IPv4, the frame's sender and the packet's sender are both the container (RFC 826).
  frame(table.rule("from_container"), ETH_P_ARP)
      .payload(NFT_PAYLOAD_NETWORK_HEADER, 0, 6, 0)
      .equals(0, {0, 1, 8, 0, 6, 4})
      .meta(NFT_META_IIFNAME, 0)
      .payload(NFT_PAYLOAD_LL_HEADER, 6, 6, 4)
      .payload(NFT_PAYLOAD_NETWORK_HEADER, 14, 4, 6)
      .in("senders4", 0)
      .payload(NFT_PAYLOAD_NETWORK_HEADER, 8, 6, 4)
      .in("senders4", 0)
      .accept();
  // IPv6: no router advertisements, no redirects; what a neighbour advertisement or a duplicate address probe
  // claims must be the container's own (RFC 4861, 4.3 and 4.4: the target is at offset 8).
  for (std::uint8_t type : {std::uint8_t{134}, std::uint8_t{137}})
    icmp6(frame(table.rule("from_container"), ETH_P_IPV6), type).drop();
  icmp6(frame(table.rule("from_container"), ETH_P_IPV6), kNdAdvert)
      .meta(NFT_META_IIFNAME, 0)
      .payload(NFT_PAYLOAD_LL_HEADER, 6, 6, 4)
      .payload(NFT_PAYLOAD_TRANSPORT_HEADER, 8, 16, 6)
      .not_in("senders6", 0)
      .drop();
  source6(sender(frame(table.rule("from_container"), ETH_P_IPV6)), 6).in("senders6", 0).accept();
  // Before it has an address (source "::"): multicast reports, and probes for its own address only.
  for (std::uint8_t type : {kMld1Report, kMld2Report})
    sender(from_nobody(icmp6(frame(table.rule("from_container"), ETH_P_IPV6), type))).in("macs", 0).accept();
  sender(from_nobody(icmp6(frame(table.rule("from_container"), ETH_P_IPV6), kNdSolicit)))
      .payload(NFT_PAYLOAD_TRANSPORT_HEADER, 8, 16, 6)
      .in("senders6", 0)
      .accept();
  table.rule("from_container").drop();
}

}  // namespace

void add_ruleset(NftTransaction& transaction, const Scope& scope) {
  // Adding before removing makes removing right whether or not the table is there.
  for (std::uint8_t family : {std::uint8_t{NFPROTO_INET}, std::uint8_t{NFPROTO_BRIDGE}}) {
    transaction.add_table(family, scope.table, {});
    transaction.remove_table(family, scope.table);
    transaction.add_table(family, scope.table, kRulesetVersion);
  }
  Writer inet(transaction, NFPROTO_INET, scope.table);
  add_inet_sets(inet);
  add_port_rules(inet);
  add_source_rules(inet);
  add_forward_rules(inet);
  Writer bridge(transaction, NFPROTO_BRIDGE, scope.table);
  add_bridge_rules(bridge, scope);
}

}  // namespace fastdock::net
