"""From networks and documents to the plain values of the core: firewall elements and attach plans."""

from __future__ import annotations

import _socket  # socket itself takes 5 ms to import
from collections.abc import Iterable

from fastdock._core import net

from .model import Document, Network
from .ports import PROTOCOLS, PublishedPort


def add_network(rules: net.FirewallRules, network: Network) -> None:
    """The elements of a bridge."""
    if network.driver == "bridge":
        rules.add_bridge(
            network.device, internal=network.internal, masquerade=network.masquerade, icc=network.icc
        )


def add_container(rules: net.FirewallRules, document: Document) -> None:
    """The elements of a container."""
    for endpoint in document.endpoints:
        if endpoint.driver != "bridge":
            continue
        rules.add_sender(endpoint.host_name, endpoint.mac, endpoint.plain_addresses)
        if document.egress is not None:
            sources = endpoint.plain_addresses
            if any(":" in source for source in sources):
                sources.append(link_local(endpoint.mac))
            for source in sources:
                rules.add_egress(source, list(document.egress.prefixes))
    add_ports(rules, document.ports)


def add_ports(rules: net.FirewallRules, ports: Iterable[PublishedPort]) -> None:
    """The elements of published ports."""
    for port in ports:
        rules.add_port(
            PROTOCOLS[port.protocol],
            port.host,
            port.host_port,
            port.container,
            port.container_port,
            port.relayed,
        )


def all_rules(networks: Iterable[Network], documents: Iterable[Document]) -> net.FirewallRules:
    """Everything there is, for net.rebuild_firewall()."""
    rules = net.FirewallRules()
    for network in networks:
        add_network(rules, network)
    for document in documents:
        add_container(rules, document)
    return rules


def attach_plan(scope: net.Scope, document: Document, resolver_socket: str, record: str) -> net.AttachPlan:
    """What net.attach() does for this container."""
    plan = net.AttachPlan(scope)
    for endpoint in document.endpoints:
        common = (endpoint.name, endpoint.mac, list(endpoint.addresses), list(endpoint.gateways))
        if endpoint.driver == "macvlan":
            plan.add_macvlan_endpoint(endpoint.device, *common, mtu=endpoint.mtu, mode=endpoint.macvlan_mode)
        else:
            plan.add_bridge_endpoint(
                endpoint.device, endpoint.host_name, *common, mtu=endpoint.mtu, isolated=endpoint.isolated
            )
    rules = net.FirewallRules()
    add_container(rules, document)
    plan.firewall = rules
    if sysctls := [pair for endpoint in document.endpoints for pair in endpoint.sysctls]:
        plan.sysctls = sysctls
    if document.uses_resolver:
        plan.resolver_socket = resolver_socket
        plan.resolver_record = record
    return plan


def link_local(mac: str) -> str:
    """The link-local address that the kernel gives a device (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", "").replace("-", ""))
    identifier = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return _socket.inet_ntop(_socket.AF_INET6, b"\xfe\x80" + bytes(6) + identifier)
