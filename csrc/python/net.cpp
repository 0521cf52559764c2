// fastdock._core.net: bridges, containers' networks and the firewall.  Addresses are text at this boundary.
#include <netinet/in.h>
#include <pybind11/stl.h>

#include "net/attach.h"
#include "net/link.h"
#include "net/resolver_client.h"
#include "python/binding.h"

namespace fastdock::python {

namespace py = pybind11;

namespace {

using namespace fastdock::net;
using Texts = std::vector<std::string>;

std::vector<IpAddress> addresses(const Texts& texts) {
  std::vector<IpAddress> made;
  for (const auto& text : texts) made.push_back(unwrap(parse_address(text)));
  return made;
}

std::vector<Prefix> prefixes(const Texts& texts) {
  std::vector<Prefix> made;
  for (const auto& text : texts) made.push_back(unwrap(parse_prefix(text)));
  return made;
}

void register_firewall(py::module_& net) {
  py::class_<Scope>(net, "Scope", "Whose tables: the engine's root decides.")
      .def(py::init([](std::string table, std::string port_prefix) {
             return Scope{std::move(table), std::move(port_prefix)};
           }),
           py::arg("table") = "fastdock", py::arg("port_prefix") = "fdv")
      .def_readonly("table", &Scope::table)
      .def_readonly("port_prefix", &Scope::port_prefix);

  py::class_<FirewallRules>(net, "FirewallRules",
                            "Elements of the firewall's sets: of a container, or all there are.")
      .def(py::init<>())
      .def(
          "add_bridge",
          [](FirewallRules& rules, std::string name, bool internal, bool masquerade, bool icc) {
            rules.bridges.push_back({std::move(name), internal, masquerade, icc});
          },
          py::arg("name"), py::kw_only(), py::arg("internal") = false, py::arg("masquerade") = true,
          py::arg("icc") = true)
      .def(
          "add_sender",
          [](FirewallRules& rules, std::string port, const std::string& mac, const Texts& texts) {
            rules.senders.push_back({std::move(port), unwrap(parse_mac(mac)), addresses(texts)});
          },
          py::arg("port"), py::arg("mac"), py::arg("addresses"))
      .def(
          "add_port",
          [](FirewallRules& rules, std::uint8_t protocol, const std::string& host, std::uint16_t host_port,
             const std::string& container, std::uint16_t container_port, bool relayed) {
            IpAddress at;
            if (!host.empty()) at = unwrap(parse_address(host));
            rules.ports.push_back(
                {protocol, at, host_port, unwrap(parse_address(container)), container_port, relayed});
          },
          py::arg("protocol"), py::arg("host"), py::arg("host_port"), py::arg("container"),
          py::arg("container_port"), py::arg("relayed") = false)
      .def(
          "add_egress",
          [](FirewallRules& rules, const std::string& source, const Texts& allowed) {
            rules.egress.push_back({unwrap(parse_address(source)), prefixes(allowed)});
          },
          py::arg("source"), py::arg("allowed"))
      .def_readwrite("relay_port", &FirewallRules::relay_port);

  net.def(
      "rebuild_firewall",
      [](const Scope& scope, const FirewallRules& rules) {
        without_gil([&] { return rebuild_firewall(scope, rules); });
      },
      py::arg("scope"), py::arg("rules"), "Makes both tables anew, with exactly these elements.");
  net.def(
      "firewall_is_current",
      [](const Scope& scope) { return without_gil([&] { return firewall_is_current(scope); }); },
      py::arg("scope"), "Whether both tables are there and of this version.");
  net.def(
      "add_rules",
      [](const Scope& scope, const FirewallRules& rules) {
        without_gil([&] { return add_rules(scope, rules); });
      },
      py::arg("scope"), py::arg("rules"), "Adds elements; ENOENT when the tables are gone.");
  net.def(
      "remove_rules",
      [](const Scope& scope, const FirewallRules& rules) {
        without_gil([&] { return remove_rules(scope, rules); });
      },
      py::arg("scope"), py::arg("rules"), "Removes elements; those already gone are success.");
  net.def(
      "replace_rules",
      [](const Scope& scope, const FirewallRules& gone, const FirewallRules& now) {
        without_gil([&] { return replace_rules(scope, gone, now); });
      },
      py::arg("scope"), py::arg("gone"), py::arg("now"), "Removes elements and adds others, at once.");
  net.def(
      "allow_destination",
      [](const Scope& scope, const std::string& source, const std::string& destination,
         std::uint32_t seconds) {
        auto from = unwrap(parse_address(source));
        auto to = unwrap(parse_address(destination));
        without_gil([&] { return allow_destination(scope, from, to, seconds); });
      },
      py::arg("scope"), py::arg("source"), py::arg("destination"), py::arg("seconds"),
      "Lets a container with an egress policy reach one address for some seconds.");
  net.def(
      "remove_firewall", [](const Scope& scope) { without_gil([&] { return remove_firewall(scope); }); },
      py::arg("scope"), "Removes both tables.");
}

void register_links(py::module_& net) {
  net.def(
      "ensure_bridge",
      [](const std::string& name, const Texts& with_lengths, const std::string& mac, std::uint32_t mtu) {
        Bridge bridge{name, prefixes(with_lengths), std::nullopt, mtu};
        if (!mac.empty()) bridge.mac = unwrap(parse_mac(mac));
        return without_gil([&] { return ensure_bridge(bridge); });
      },
      py::arg("name"), py::arg("addresses"), py::arg("mac") = "", py::arg("mtu") = 0,
      "Creates a bridge or brings it into this state; its interface index.");
  net.def(
      "find_link", [](const std::string& name) { return without_gil([&] { return find_link(name); }); },
      py::arg("name"), "A device's index; ENODEV when there is none.");
  net.def(
      "ensure_vlan",
      [](const std::string& name, const std::string& parent, std::uint16_t number) {
        without_gil([&] { return ensure_vlan(name, parent, number); });
      },
      py::arg("name"), py::arg("parent"), py::arg("number"),
      "The device of a VLAN on another device, unless it is there.");
  net.def(
      "remove_link",
      [](const std::string& name) {
        without_gil([&] { return static_cast<Result<void> (*)(const std::string&)>(remove_link)(name); });
      },
      py::arg("name"), "Removes a device; a missing one is success.");
  net.def(
      "used_prefixes", [] { return without_gil([] { return used_prefixes(); }); },
      "Prefixes that this machine has routes to, as text.");
}

void register_attach(py::module_& net) {
  py::class_<AttachPlan>(net, "AttachPlan",
                         "What a container gets: devices, addresses, firewall elements, names.")
      .def(py::init([](const Scope& scope) {
             AttachPlan plan;
             plan.scope = scope;
             return plan;
           }),
           py::arg("scope"))
      .def(
          "add_bridge_endpoint",
          [](AttachPlan& plan, std::string bridge, std::string host_name, std::string name,
             const std::string& mac, const Texts& with_lengths, const Texts& gateways, std::uint32_t mtu,
             bool isolated) {
            plan.endpoints.push_back({.driver = Driver::kBridge,
                                      .device = std::move(bridge),
                                      .host_name = std::move(host_name),
                                      .name = std::move(name),
                                      .mac = unwrap(parse_mac(mac)),
                                      .mtu = mtu,
                                      .isolated = isolated,
                                      .addresses = prefixes(with_lengths),
                                      .gateways = addresses(gateways)});
          },
          py::arg("bridge"), py::arg("host_name"), py::arg("name"), py::arg("mac"), py::arg("addresses"),
          py::arg("gateways"), py::kw_only(), py::arg("mtu") = 0, py::arg("isolated") = false)
      .def(
          "add_macvlan_endpoint",
          [](AttachPlan& plan, std::string parent, std::string name, const std::string& mac,
             const Texts& with_lengths, const Texts& gateways, std::uint32_t mtu, std::uint32_t mode) {
            plan.endpoints.push_back({.driver = Driver::kMacvlan,
                                      .device = std::move(parent),
                                      .host_name = {},
                                      .name = std::move(name),
                                      .mac = unwrap(parse_mac(mac)),
                                      .mtu = mtu,
                                      .macvlan_mode = mode,
                                      .addresses = prefixes(with_lengths),
                                      .gateways = addresses(gateways)});
          },
          py::arg("parent"), py::arg("name"), py::arg("mac"), py::arg("addresses"), py::arg("gateways"),
          py::kw_only(), py::arg("mtu") = 0, py::arg("mode") = 0)
      .def_readwrite("firewall", &AttachPlan::firewall)
      .def_readwrite("resolver_socket", &AttachPlan::resolver_socket)
      .def_readwrite("resolver_record", &AttachPlan::resolver_record)
      .def_readwrite("sysctls", &AttachPlan::sysctls);

  net.def(
      "attach",
      [](const AttachPlan& plan, int namespace_fd, int process) {
        without_gil([&] { return attach(plan, namespace_fd, process); });
      },
      py::arg("plan"), py::arg("namespace_fd"), py::arg("process") = -1,
      "Gives the network namespace its networks.  On failure nothing is left behind.");
  net.def(
      "attach_process",
      [](const AttachPlan& plan, int pid) { without_gil([&] { return attach_process(plan, pid); }); },
      py::arg("plan"), py::arg("pid"), "attach() to the namespace of a process.");
  net.def(
      "add_default_routes",
      [](int pid, const std::string& device, const Texts& texts) {
        auto gateways = addresses(texts);
        without_gil([&] { return add_default_routes(pid, device, gateways); });
      },
      py::arg("pid"), py::arg("device"), py::arg("gateways"),
      "Default routes of a running container through a device that it has.");
  net.def(
      "attach_loopback", [](int namespace_fd) { without_gil([&] { return attach_loopback(namespace_fd); }); },
      py::arg("namespace_fd"), "Only the loopback device.");
  net.def(
      "detach", [](const AttachPlan& plan) { without_gil([&] { return detach(plan); }); }, py::arg("plan"),
      "Undoes attach(); good at any time, and twice.");
  net.def(
      "release", [](const AttachPlan& plan) { without_gil([&] { return release(plan); }); }, py::arg("plan"),
      "The same for a container that has ended: its devices end by themselves.");
}

void register_resolver(py::module_& net) {
  net.def(
      "register_container",
      [](const std::string& resolver, const std::string& record) {
        without_gil([&] { return register_container(resolver, record, {}, -1); });
      },
      py::arg("resolver"), py::arg("record"), "Replaces the record of a container that the resolver knows.");
  net.def(
      "reconnect_resolver",
      [](const AttachPlan& plan, int pid) { without_gil([&] { return reconnect_resolver(plan, pid); }); },
      py::arg("plan"), py::arg("pid"), "Gives a running container to a resolver that was started after it.");
  net.def(
      "unregister_container",
      [](const std::string& resolver, const std::string& id) {
        without_gil([&] { return unregister_container(resolver, id); });
      },
      py::arg("resolver"), py::arg("id"), "Makes the resolver forget a container.");
  net.def(
      "list_registered",
      [](const std::string& resolver) { return without_gil([&] { return list_registered(resolver); }); },
      py::arg("resolver"), "The ids that the resolver knows, a line each.");
}

}  // namespace

void register_net(py::module_& module) {
  auto net = module.def_submodule("net", "Bridges, containers' networks and the firewall.");
  register_firewall(net);
  register_links(net);
  register_attach(net);
  register_resolver(net);
}

}  // namespace fastdock::python
