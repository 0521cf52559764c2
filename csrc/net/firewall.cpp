#include "net/firewall.h"

#include <netinet/in.h>
// clang-format off: the C library's addresses before the kernel's headers that define them too
#include <linux/netfilter.h>
// clang-format on

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>

namespace fastdock::net {
namespace {

using Elements = std::vector<NftElement>;

constexpr std::array<const char*, 2> kNamed{"named4", "named6"};  // destinations that the resolver opens

// Concatenates fields, each padded to a register's four bytes.
class Key {
 public:
  Key& add(Bytes bytes, std::size_t size) {
    std::size_t end = bytes_.size() + (size + 3) / 4 * 4;
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    bytes_.resize(end);
    return *this;
  }
  Key& name(std::string_view text) { return add(std::as_bytes(std::span(text)), 16); }
  Key& address(const IpAddress& address) { return add(address.bytes(), address.size()); }
  Key& mac(const Mac& mac) { return add(std::as_bytes(std::span(mac)), mac.size()); }
  Key& byte(std::uint8_t value) { return add(std::as_bytes(std::span(&value, 1)), 1); }
  Key& port(std::uint16_t port) {
    std::array<std::uint8_t, 2> network{static_cast<std::uint8_t>(port >> 8),
                                        static_cast<std::uint8_t>(port & 0xff)};
    return add(std::as_bytes(std::span(network)), 2);
  }
  operator std::vector<std::byte>() const { return bytes_; }  // NOLINT(google-explicit-constructor)

 private:
  std::vector<std::byte> bytes_;
};

// Of one field each: those are not padded.
Elements relay_elements(std::uint16_t port) {
  Elements made;
  for (std::uint8_t protocol : {IPPROTO_TCP, IPPROTO_UDP})
    if (port != 0)
      made.push_back({.key = {std::byte{protocol}},
                      .data = {static_cast<std::byte>(port >> 8), static_cast<std::byte>(port & 0xff)}});
  return made;
}

struct Change {
  std::uint8_t family;
  std::string set;
  Elements elements;
};

// The elements that `rules` are, set by set.
class Changes {
 public:
  explicit Changes(const FirewallRules& rules) {
    for (const auto& bridge : rules.bridges) add(bridge);
    for (const auto& sender : rules.senders) add(sender);
    for (const auto& port : rules.ports) add(port);
    for (const auto& egress : rules.egress) add(egress);
    for (auto& made : relay_elements(rules.relay_port)) inet("relay", std::move(made));
  }
  [[nodiscard]] const std::vector<Change>& all() const { return changes_; }

 private:
  void element(std::uint8_t family, const std::string& set, NftElement element) {
    auto found =
        std::ranges::find_if(changes_, [&](const auto& c) { return c.set == set && c.family == family; });
    if (found == changes_.end()) found = changes_.insert(found, Change{family, set, {}});
    found->elements.push_back(std::move(element));
  }
  void inet(const std::string& set, NftElement made) { element(NFPROTO_INET, set, std::move(made)); }
  void bridge(const std::string& set, NftElement made) { element(NFPROTO_BRIDGE, set, std::move(made)); }

  void add(const BridgeRules& rules) {
    inet("bridges", {.key = Key().name(rules.name)});
    inet("same", {.key = Key().name(rules.name).name(rules.name)});
    if (rules.icc) inet("icc", {.key = Key().name(rules.name).name(rules.name)});
    if (rules.internal) inet("internal", {.key = Key().name(rules.name)});
    if (rules.masquerade && !rules.internal) inet("masquerade", {.key = Key().name(rules.name)});
  }

  void add(const SenderRules& rules) {
    bridge("macs", {.key = Key().name(rules.port).mac(rules.mac)});
    bool inet6 = false;
    for (const auto& address : rules.addresses) {
      bool is6 = address.family == AF_INET6;
      inet6 |= is6;
      bridge(is6 ? "senders6" : "senders4", {.key = Key().name(rules.port).mac(rules.mac).address(address)});
    }
    if (inet6)
      bridge("senders6", {.key = Key().name(rules.port).mac(rules.mac).address(link_local_of(rules.mac))});
  }

  void add(const PortRules& rules) {
    bool is6 = rules.container.family == AF_INET6;
    Key key;
    if (rules.host) key.address(rules.host);
    key.byte(rules.protocol).port(rules.host_port);
    std::string set = rules.relayed ? "relayed" : is6 ? "ports6" : "ports4";
    if (rules.host) set += "_at";
    // Of each container once, whatever the number of its ports: removing twice fails (see remove_rules).
    NftElement self{.key = Key().address(rules.container).address(rules.container)};
    if (std::ranges::find(selves_, self.key) == selves_.end()) {
      selves_.push_back(self.key);
      inet(is6 ? "self6" : "self4", self);
    }
    inet(set, {.key = key, .data = Key().address(rules.container).port(rules.container_port)});
  }

  void add(const EgressRules& rules) {
    bool is6 = rules.source.family == AF_INET6;
    inet(is6 ? "guarded6" : "guarded4", {.key = Key().address(rules.source)});
    for (const auto& prefix : rules.allowed) {
      if (prefix.address.family != rules.source.family) continue;
      inet(is6 ? "allowed6" : "allowed4", {.key = Key().address(rules.source).address(first_of(prefix)),
                                           .key_end = Key().address(rules.source).address(last_of(prefix))});
    }
  }

  std::vector<Change> changes_;
  std::vector<std::vector<std::byte>> selves_;
};

}  // namespace

Result<void> rebuild_firewall(const Scope& scope, const FirewallRules& rules) {
  NftTransaction transaction;
  // What the resolver has opened is known to nobody else: it stays, as far as it is there.
  std::array<Elements, kNamed.size()> opened;
  for (std::size_t i = 0; i < kNamed.size(); ++i) {
    FASTDOCK_TRY(opened[i], list_elements(NFPROTO_INET, scope.table, kNamed[i]));
    std::erase_if(opened[i],
                  [](const NftElement& element) { return element.timeout_ms == 0; });  // just ended
  }
  add_ruleset(transaction, scope);
  Changes changes(rules);
  for (const auto& change : changes.all())
    transaction.add_elements(change.family, scope.table, change.set, change.elements);
  for (std::size_t i = 0; i < kNamed.size(); ++i)
    transaction.add_elements(NFPROTO_INET, scope.table, kNamed[i], opened[i]);
  return transaction.commit();
}

Result<bool> firewall_is_current(const Scope& scope) {
  static const NftShape kShape = [&] {  // the same for all tables, but for their names
    NftTransaction transaction;
    add_ruleset(transaction, scope);
    return transaction.shape();
  }();
  return are_tables_whole(scope.table, kRulesetVersion, kShape);
}

Result<void> add_rules(const Scope& scope, const FirewallRules& rules) {
  NftTransaction transaction;
  if (!rules.senders.empty()) transaction.surely_changes();  // each life of a container has new devices
  Changes changes(rules);
  for (const auto& change : changes.all())
    transaction.add_elements(change.family, scope.table, change.set, change.elements);
  return transaction.commit();
}

Result<void> remove_rules(const Scope& scope, const FirewallRules& rules) {
  Changes changes(rules);
  NftTransaction transaction;
  // Removing what is not there fails the transaction, and a failed one waits for an RCU grace period (tens of
  // milliseconds, nf_tables_abort()) with all others waiting behind it.  Adding what is there is nothing, so
  // adding first makes removing right in any case.  (NFT_MSG_DESTROYSETELEM needs Linux 6.3.)
  for (const auto& change : changes.all()) {
    transaction.add_elements(change.family, scope.table, change.set, change.elements);
    transaction.remove_elements(change.family, scope.table, change.set, change.elements);
  }
  auto removed = transaction.commit();
  if (!removed && removed.error().number == ENOENT) return {};  // no tables
  return removed;
}

Result<void> replace_rules(const Scope& scope, const FirewallRules& gone, const FirewallRules& now) {
  NftTransaction transaction;
  Changes removed(gone), added(now);
  for (const auto& change : removed.all()) {  // adding first: see remove_rules()
    transaction.add_elements(change.family, scope.table, change.set, change.elements);
    transaction.remove_elements(change.family, scope.table, change.set, change.elements);
  }
  for (const auto& change : added.all())
    transaction.add_elements(change.family, scope.table, change.set, change.elements);
  return transaction.commit();
}

Result<void> allow_destination(const Scope& scope, const IpAddress& source, const IpAddress& destination,
                               std::uint32_t seconds) {
  if (source.family != destination.family) return {};
  const std::string set = source.family == AF_INET6 ? "named6" : "named4";
  std::vector<std::byte> key = Key().address(source).address(destination);
  // An element that is there keeps its old time-out, so it is made anew: in one transaction, a packet always
  // meets one of the two.  Adding first makes removing right in any case.
  NftTransaction transaction;
  NftElement element{.key = key, .timeout_ms = std::uint64_t{seconds} * 1000};
  transaction.add_elements(NFPROTO_INET, scope.table, set, {element});
  transaction.remove_elements(NFPROTO_INET, scope.table, set, {NftElement{.key = key}});
  transaction.add_elements(NFPROTO_INET, scope.table, set, {element});
  return transaction.commit();
}

Result<void> forget_destinations(const Scope& scope, const std::vector<EgressRules>& guarded) {
  if (guarded.empty()) return {};
  NftTransaction transaction;
  bool some = false;
  for (const std::string set : kNamed) {
    FASTDOCK_TRY(auto elements, list_elements(NFPROTO_INET, scope.table, set));
    Elements gone;
    for (auto& [key, end, data, timeout] : elements) {
      bool mine = std::ranges::any_of(guarded, [&](const EgressRules& rules) {
        std::vector<std::byte> source = Key().address(rules.source);
        return key.size() == 2 * source.size() &&
               std::ranges::equal(source, std::span(key).first(source.size()));
      });
      if (mine) gone.push_back({.key = std::move(key), .timeout_ms = 1000});
    }
    if (gone.empty()) continue;
    some = true;
    transaction.add_elements(NFPROTO_INET, scope.table, set, gone);  // one may have run out meanwhile
    for (auto& element : gone) element.timeout_ms = 0;
    transaction.remove_elements(NFPROTO_INET, scope.table, set, gone);
  }
  if (!some) return {};
  return transaction.commit();
}

Result<void> set_relay_port(const Scope& scope, std::uint16_t port) {
  Elements elements = relay_elements(port);
  NftTransaction first;
  first.add_elements(NFPROTO_INET, scope.table, "relay", elements);
  auto added = first.commit();
  // That of a relay before, which cannot be changed, only replaced.
  if (added || (added.error().number != EEXIST && added.error().number != EBUSY)) return added;
  NftTransaction second;
  for (const auto& element : elements)
    second.remove_elements(NFPROTO_INET, scope.table, "relay", {NftElement{.key = element.key}});
  second.add_elements(NFPROTO_INET, scope.table, "relay", elements);
  return second.commit();
}

// In the order of the rules (ruleset.cpp, add_port_rules()).
Result<std::optional<PublishedTarget>> relay_target(const Scope& scope, std::uint8_t protocol,
                                                    const IpAddress& host, std::uint16_t port) {
  for (const std::string at : {"_at", ""}) {
    Key key;
    if (!at.empty()) key.address(host);
    key.byte(protocol).port(port);
    for (const std::string map : {"relayed", "ports6"}) {
      FASTDOCK_TRY(auto found, look_up_element(NFPROTO_INET, scope.table, map + at, key));
      PublishedTarget target;
      target.container.family = map == "ports6" ? AF_INET6 : AF_INET;
      std::size_t size = target.container.size();
      if (!found || found->size() < size + 2) continue;
      std::memcpy(target.container.octets.data(), found->data(), size);
      std::uint16_t number = 0;
      std::memcpy(&number, found->data() + size, sizeof number);
      target.port = ntohs(number);
      return target;
    }
  }
  return std::optional<PublishedTarget>{};
}

Result<bool> is_relay_needed(const Scope& scope) {
  using enum NftType;
  for (const std::string at : {"", "_at"}) {
    auto mark = at.empty() ? mark_of({kProtocol, kService}) : mark_of({kIpv6, kProtocol, kService});
    for (const std::string map : {"relayed", "ports6"}) {
      FASTDOCK_TRY(auto elements, list_elements(NFPROTO_INET, scope.table, map + at));
      if (std::ranges::any_of(elements, [&](const auto& element) { return element.key != mark; }))
        return true;
    }
  }
  return false;
}

Result<void> remove_firewall(const Scope& scope) {
  NftTransaction transaction;
  for (std::uint8_t family : {std::uint8_t{NFPROTO_INET}, std::uint8_t{NFPROTO_BRIDGE}}) {
    transaction.add_table(family, scope.table, {});
    transaction.remove_table(family, scope.table);
  }
  return transaction.commit();
}

}  // namespace fastdock::net
