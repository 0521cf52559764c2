"""From options to a container's place in its networks.  Everything here runs inside one write transaction."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Collection, Iterable, Mapping, Sequence

from fastdock._errors import Conflict, FastdockError, SpecError
from fastdock._light import sqlite3
from fastdock.store.paths import is_rootless

from . import files, ipam, ports
from .model import (
    DEFAULT,
    INTERFACE_NAME,
    INTERFACE_SYSCTLS,
    Attachment,
    Document,
    Endpoint,
    Network,
    NetworkOptions,
    check_mac,
    is_interface,
    parse_egress,
)
from .ports import PortSpec, PublishedPort

_MACVLAN_MODES = {"": 0, "private": 1, "vepa": 2, "bridge": 4, "passthru": 8}


def make_endpoint(
    db: sqlite3.Connection,
    network: Network,
    attachment: Attachment,
    container_id: str,
    container_name: str,
    hostname: str,
    used_names: Collection[str],
    port_prefix: str,
    previous: Endpoint | None = None,
) -> Endpoint:
    """Takes addresses in ``network``; default routes it gets by ``lead_out``.

    ``used_names``: of the container's other devices.  Raises Conflict, SpecError, FastdockError.
    """
    if network.config_only:
        raise SpecError(f"{network.name} is a configuration for other networks: no container joins it")
    wanted = {4: attachment.ip, 6: attachment.ip6}
    for version, address in wanted.items():
        if address and all(subnet.version != version for subnet in network.subnets):
            raise SpecError(f"the network {network.name} has no IPv{version} addresses")
    if (attachment.ip or attachment.ip6) and network.name == DEFAULT:
        raise SpecError("a fixed address needs a network of your own: fastdock network create --subnet")
    last = {6 if ":" in address else 4: address for address in (previous.plain_addresses if previous else ())}
    pairs = [
        (
            subnet,
            ipam.allocate(
                db, network.id, subnet, container_id, wanted[subnet.version], last.get(subnet.version, "")
            ),
        )
        for subnet in network.subnets
    ]
    addresses = [address for _, address in pairs]
    for alias in attachment.aliases:
        if not alias.isprintable() or " " in alias:
            raise SpecError(f"{alias!r} cannot be an alias: a name has no spaces")
    names: tuple[str, ...] = ()
    if network.name != DEFAULT and network.driver == "bridge":
        called = [name for name in (container_name, *attachment.aliases, container_id[:12], hostname) if name]
        names = tuple(dict.fromkeys([*called, *(f"{name}.{network.name}" for name in called)]))
    bridge = network.driver == "bridge"
    options = dict(attachment.driver_opts)
    interface = _interface_of(network, options, used_names)
    return Endpoint(
        network_id=network.id,
        network=network.name,
        driver=network.driver,
        device=network.device,
        name=interface,
        mac=check_mac(attachment.mac) or ipam.mac_of(addresses),
        addresses=tuple(subnet.with_length(address) for subnet, address in pairs),
        host_name=port_prefix + os.urandom(8).hex()[: 15 - len(port_prefix)] if bridge else "",
        mtu=network.mtu,
        isolated=bridge and not network.icc,
        macvlan_mode=_MACVLAN_MODES[network.options.get("macvlan_mode", "")] if not bridge else 0,
        names=names,
        host_binding=network.host_binding,
        gw_priority=attachment.gw_priority,
        sysctls=_device_sysctls(options.get(INTERFACE_SYSCTLS, ""), interface),
        driver_opts=attachment.driver_opts,
        links=attachment.links,
    )


def lead_out(pairs: Iterable[tuple[Network, Endpoint]]) -> tuple[Endpoint, ...]:
    """A container's places with their default routes: of each IP version, that of the highest ``gw_priority``.

    Of several, the first; an internal network has none.
    """
    pairs = tuple(pairs)
    routed = set[int]()  # the IP versions that have a default route
    gateways: dict[str, tuple[str, ...]] = {}  # of each device
    for network, endpoint in sorted(pairs, key=lambda pair: -pair[1].gw_priority):
        subnets = () if network.internal else network.subnets
        gateways[endpoint.name] = tuple(each.gateway for each in subnets if each.version not in routed)
        routed.update(each.version for each in subnets)
    return tuple(endpoint._replace(gateways=gateways[endpoint.name]) for _, endpoint in pairs)


def _interface_of(network: Network, options: Mapping[str, str], used: Collection[str]) -> str:
    if wanted := options.get(INTERFACE_NAME, ""):
        if not is_interface(wanted) or wanted in used or wanted == "lo":
            raise SpecError(
                f"{wanted!r} cannot be the name of this container's device, or is that of another"
            )
        return wanted
    prefix = network.interface_prefix
    return next(name for name in (f"{prefix}{n}" for n in itertools.count()) if name not in used)


def _with_sysctls(
    endpoints: Sequence[Endpoint], sysctls: Sequence[tuple[str, str, str]]
) -> Sequence[Endpoint]:
    devices = {endpoint.name for endpoint in endpoints}
    for device, path, _ in sysctls:
        if device not in devices:
            raise SpecError(f"sysctl {path}: the container has no device {device}")
    if not sysctls:
        return endpoints
    of_each: dict[str, list[tuple[str, str]]] = {}
    for device, path, value in sysctls:
        of_each.setdefault(device, []).append((path, value))
    return [
        endpoint._replace(sysctls=(*endpoint.sysctls, *of_each.get(endpoint.name, ())))
        for endpoint in endpoints
    ]


def _device_sysctls(text: str, interface: str) -> tuple[tuple[str, str], ...]:
    """``net.ipv4.conf.IFNAME.forwarding=1,…`` of a driver-opt, as paths and values."""
    found: list[tuple[str, str]] = []
    for item in filter(None, text.split(",")):
        key, equals, value = item.partition("=")
        words = key.strip().split(".")
        if (
            not equals
            or len(words) != 5
            or words[0] != "net"
            or words[3] != "IFNAME"
            or not _are_words(words)
        ):
            raise SpecError(f"bad sysctl of a device {item!r}: it is net.FAMILY.PART.IFNAME.NAME=VALUE")
        found.append(("/".join([*words[:3], interface, words[4]]), value.strip()))
    return tuple(found)


def _are_words(words: Iterable[str]) -> bool:
    return all(word.replace("_", "").isalnum() for word in words)


def make_document(
    db: sqlite3.Connection,
    networks: Sequence[tuple[Network, Attachment]],
    options: NetworkOptions,
    container_id: str,
    container_name: str,
    port_prefix: str,
    host_conf: files.ResolvConf,
    hostname: str,
    previous: Document | None = None,
) -> Document:
    """Takes everything that the container needs: addresses, ports.  Raises Conflict, SpecError, FastdockError."""
    egress = parse_egress(options.egress)
    if egress is not None and any(network.driver != "bridge" for network, _ in networks):
        raise SpecError("--egress needs bridge networks: nothing else passes fastdock's firewall")
    made: list[Endpoint] = []
    before = {endpoint.network_id: endpoint for endpoint in (previous.endpoints if previous else ())}
    for network, attachment in networks:
        made.append(
            make_endpoint(
                db,
                network,
                attachment,
                container_id,
                container_name,
                hostname,
                {endpoint.name for endpoint in made},
                port_prefix,
                before.get(network.id),
            )
        )
    ways = zip((network for network, _ in networks), made, strict=True)
    endpoints = _with_sysctls(lead_out(ways), options.sysctls)
    upstreams = tuple(options.dns) or host_conf.nameservers
    own_names = any(endpoint.names for endpoint in endpoints)
    # The resolver runs in the host's namespace, so it also reaches servers on the host's loopback device.
    only_local = not options.dns and not host_conf.reachable_nameservers and bool(host_conf.nameservers)
    return Document(
        endpoints=tuple(endpoints),
        ports=tuple(publish(db, options, endpoints, container_id)),
        egress=egress,
        upstreams=upstreams,
        uses_resolver=own_names or egress is not None or only_local,
        exposed=tuple(
            f"{spec.container_port}/{spec.protocol}"
            for text in options.exposed
            for spec in ports.parse_port(text)
        ),
        hostname=files.own_names(hostname, options.domainname),
    )


def publish(
    db: sqlite3.Connection, options: NetworkOptions, endpoints: Iterable[Endpoint], container_id: str
) -> list[PublishedPort]:
    """Takes the host's ports.  Without a bridge network that leaves, there is nothing to publish to."""
    specs = [spec for text in options.publish for spec in ports.parse_port(text)]
    if options.publish_all:
        named = {(spec.container_port, spec.protocol) for spec in specs}
        exposed = [spec for text in options.exposed for spec in ports.parse_port(text)]
        specs += [spec for spec in exposed if (spec.container_port, spec.protocol) not in named]
    endpoints = tuple(endpoints)
    targets = door_of(endpoints)
    binding = next((each.host_binding for each in endpoints if each.gateways and each.host_binding), "")
    taken: list[PublishedPort] = []
    for spec in specs:
        if binding and not spec.host:
            spec = spec._replace(host=binding)
        taken += _publish_one(db, spec, targets, container_id)
    return taken


def door_of(endpoints: Iterable[Endpoint]) -> dict[int, str]:
    """The container's addresses that published ports lead to, by family."""
    targets: dict[int, str] = {}
    for endpoint in endpoints:
        if endpoint.driver == "bridge":
            doors = {":" in gateway for gateway in endpoint.gateways}
            for address in endpoint.plain_addresses:
                if (":" in address) in doors:
                    targets.setdefault(ports.AF_INET6 if ":" in address else ports.AF_INET, address)
    return targets


def _publish_one(
    db: sqlite3.Connection, spec: PortSpec, targets: dict[int, str], container_id: str
) -> list[PublishedPort]:
    led = [
        (place, target)
        for place in ports.families(spec)
        if (target := ports.target(spec.protocol, place[0], targets)) is not None
    ]
    if not led:
        return []
    if spec.protocol not in ports.RELAYED and is_rootless():
        raise Conflict(
            f"cannot publish port {spec.container_port}/{spec.protocol}: without root a process passes ports on"
            " (fastdock-rootless), TCP and UDP alone",
            operation="publish the port",
            hint="use tcp or udp, or run it as root",
        )
    places = [place for place, _ in led]
    candidates: Iterable[int] = spec.host_ports if spec.host_ports is not None else _free_ports(spec, places)
    fixed = spec.host_ports is not None and len(spec.host_ports) == 1
    for port in candidates:
        problem = _take_port(db, spec.protocol, places, port, container_id, probed=spec.host_ports is None)
        if problem is None:
            return [
                PublishedPort(spec.protocol, host, port, address, spec.container_port, relayed)
                for (_, host), (address, relayed) in led
            ]
        if fixed:
            raise problem
    raise Conflict(f"no port is free for {spec.container_port}/{spec.protocol}", operation="publish the port")


def _free_ports(spec: PortSpec, places: list[tuple[int, str]]) -> Iterable[int]:
    """Ports that the kernel finds free; the database may know better, hence several."""
    family, host = places[0]
    if is_rootless():
        host = ""  # an address of the host's, not of this namespace: any port is tried there next
    for _ in range(64):
        try:
            port = ports.probe(family, spec.protocol, host, 0)
        except OSError as error:
            raise _no_port(spec.protocol, host, 0, error) from None
        yield port


def _no_port(protocol: str, host: str, port: int, error: OSError, who: str = "") -> Conflict:
    where = f"{host}:{port}" if host else str(port)
    if error.errno == errno.EADDRNOTAVAIL:
        reason, hint = f"{host} is not an address of this host", "ip -brief address lists them"
    elif error.errno == errno.EACCES:
        reason = error.strerror or str(error)
        hint = (
            "ports below 1024 are root's: sysctl net.ipv4.ip_unprivileged_port_start, or choose a higher one"
        )
    elif who:
        reason, hint = f"it is in use by {who}", "stop that, or choose another host port"
    else:
        reason, hint = error.strerror or str(error), "choose another host port"
    return Conflict(
        f"cannot publish port {where}/{protocol}: {reason}",
        errno=error.errno or 0,
        operation="publish the port",
        hint=hint,
    )


def _who_holds(family: int, protocol: str, port: int) -> str:
    if not is_rootless():
        return ports.holder(family, protocol, port)
    from . import forwarding

    return ports.holder(family, protocol, port, forwarding.holder_view())


def _take_port(
    db: sqlite3.Connection,
    protocol: str,
    places: list[tuple[int, str]],
    port: int,
    container_id: str,
    probed: bool,
) -> FastdockError | None:
    """Takes the port at all places, or none of them and says why.  ``probed``: the first is free for the kernel."""
    taken = db.execute(
        "SELECT family, host, name FROM network_ports LEFT JOIN network_containers USING (container_id)"
        " WHERE family IN (?, ?) AND protocol = ? AND port = ?",  # all of them, for the index
        (ports.AF_INET, ports.AF_INET6, protocol, port),
    ).fetchall()
    for family, host in places:
        for other_family, other_host, name in taken:
            if family == other_family and (host == other_host or not host or not other_host):
                who = f"the container {name}" if name else "this container itself, which publishes it twice"
                return Conflict(
                    f"port {port}/{protocol} is in use by {who}",
                    operation="publish the port",
                    hint="choose another host port, or none to get a free one",
                )
        try:
            if is_rootless():
                from . import forwarding

                forwarding.take(db, protocol, family, host, port)
            elif not probed or (family, host) != places[0]:
                ports.probe(family, protocol, host, port)
        except OSError as error:
            return _no_port(protocol, host, port, error, _who_holds(family, protocol, port))
    db.executemany(
        "INSERT INTO network_ports VALUES (?, ?, ?, ?, ?)",
        [(family, protocol, port, host, container_id) for family, host in places],
    )
    return None


def texts(
    document: Document,
    options: NetworkOptions,
    hostname: str,
    host_conf: files.ResolvConf,
    host_gateways: Sequence[str],
    linked: Iterable[tuple[str, str]] = (),
) -> tuple[str, str]:
    """The text of /etc/hosts and of /etc/resolv.conf; ``linked``: others on the default bridge, (names, address)."""
    extra = [pair for entry in options.add_host for pair in files.parse_add_host(entry, host_gateways)]
    extra += linked
    addresses = [address for endpoint in document.endpoints for address in endpoint.plain_addresses]
    conf = files.ResolvConf(
        nameservers=tuple(options.dns) or host_conf.reachable_nameservers,
        search=tuple(options.dns_search) or host_conf.search,
        options=tuple(options.dns_options) or host_conf.options,
    )
    if document.uses_resolver:
        conf = files.through_resolver(conf)
    elif conf == host_conf._replace(text=""):  # nothing was asked for, and all of it is reached from there
        conf = host_conf
    return files.hosts(hostname, addresses, extra, options.domainname), files.resolv_conf(conf)
