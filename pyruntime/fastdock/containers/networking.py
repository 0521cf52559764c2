"""The networks of kept containers: taken before the start, kept by the monitor, given back after the end."""

from __future__ import annotations

from fastdock._errors import Conflict, ContainerNotFound, ContainerNotRunning, NotFound, SpecError
from fastdock.containers.records import Record
from fastdock.network_options import escaped, first_network
from fastdock.options import Options

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from fastdock.containers.container import Container
    from fastdock.containers.creation import Start
    from fastdock.containers.manager import Containers
    from fastdock.endpoint import Endpoint
    from fastdock.engine import Engine
    from fastdock.network import Attachment, NetworkOptions
    from fastdock.network.model import Endpoint as NetworkEndpoint


_NO_ADDRESSES: dict[str, Any] = {  # otherwise those of the first network
    "IPAddress": "", "IPPrefixLen": 0, "Gateway": "", "MacAddress": "",
    "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "IPv6Gateway": "", "EndpointID": "",
}  # fmt: skip


def uses_networks(record: Record) -> bool:
    """Whether it has more than a loopback device of its own."""
    return record.document["options"].get("network", "none") not in ("none", "host")


def check_options(options: Options) -> None:
    """Refuses now what would be refused at the start.  SpecError."""
    if options.publish or options.expose or options.link or options.egress != "allow":
        from fastdock.endpoint import check_options as check

        check(options)


def hold_links(containers: Containers, options: Options) -> Options:
    """A link on the default bridge is to the container that is there now, whatever it will be called, as Docker has it.

    ContainerNotFound.
    """
    if not options.link or first_network(options) != "bridge":
        return options
    from fastdock.network.model import parse_link

    links = map(parse_link, options.link)
    return options._replace(link=tuple(f"{containers.record(name).id}:{alias}" for name, alias in links))


def _name_of(containers: Containers, reference: str) -> str:
    try:
        return containers.record(reference).name
    except ContainerNotFound:
        return reference


def open_endpoint(
    containers: Containers, record: Record, options: Options, exposed: tuple[str, ...]
) -> Endpoint:
    """Takes addresses and ports for a start.  NotFound, Conflict, SpecError.

    The caller holds the container's lock, and it does not run: so what is recorded of it is from the last time.
    """
    from fastdock.endpoint import Endpoint, suspend

    engine = containers.engine
    if not uses_networks(record):
        return Endpoint(
            engine.networks, engine.run_directory, record.id, options._replace(name=record.name), exposed,
            directory=f"{containers.run_directory}/{record.id}", find_owner=engine.network_owner,
            find_environment=engine.environment_of,
        )  # fmt: skip
    engine.networks.collect(record.id)  # those that have ended meanwhile may have the port that is wanted
    previous = suspend(engine.networks, engine.run_directory, record.id)
    try:
        endpoint = Endpoint(
            engine.networks,
            engine.run_directory,
            record.id,
            options._replace(name=record.name),
            exposed,
            find_owner=engine.network_owner,
            find_environment=engine.environment_of,
        )
        endpoint.take(previous)
    except BaseException:
        engine.networks.detach(record.id)
        raise
    endpoint.keep(f"{containers.run_directory}/{record.id}", starting=True)
    return endpoint


def owner_of(engine: Engine, reference: str) -> tuple[str, int]:
    """Id and init process of the container whose network it is: one that shares another's has none of its own.

    ContainerNotFound, ContainerNotRunning, Conflict.
    """
    if not reference:
        raise SpecError("--network container: wants the name or the id of a container")
    passed: list[tuple[str, int]] = []
    while True:
        try:
            return engine.networks.running(reference)
        except ContainerNotFound:  # it is on no network: without one, or sharing another's
            pass
        try:
            made = engine.containers.get(reference)
            here = made.id, made.pid
        except (ContainerNotFound, ContainerNotRunning):
            if passed:  # the network's owner has ended; who shares it keeps it alive
                return passed[-1]
            raise
        network = str(made.record.document["options"].get("network", "none"))
        if not network.startswith("container:") or here in passed:
            return here
        passed.append(here)
        reference = network.partition(":")[2]


def environment_of(engine: Engine, container_id: str) -> Sequence[str]:
    """The variables of a container, for those that are linked to it; none of one that has just gone."""
    try:
        return list(engine.containers.get(container_id).inspect()["Config"]["Env"])
    except ContainerNotFound:
        return ()


def linked_environment(containers: Containers, record: Record, start: Start) -> list[str]:
    """The variables of what is started in it now, with those of its links, if all of them run."""
    from fastdock.endpoint import attachments_of
    from fastdock.network.links import with_variables

    own, engine = start.plan.environment, containers.engine
    try:
        linked = attachments_of(start.options)
        return with_variables(engine.networks, linked, record.name, own, engine.environment_of)
    except ContainerNotRunning:
        return own


def hold(containers: Containers, record: Record) -> None:
    """Between a stop and the start that follows, nobody else gets its addresses and ports."""
    if uses_networks(record):
        containers.engine.networks.hold(record.id)


def rename(containers: Containers, record: Record) -> None:
    """It runs, and has just got another name."""
    if uses_networks(record):
        containers.engine.networks.rename(record.id, record.name)


def connect(container: Container, attachment: Attachment) -> None:
    """Joins one more network, at once if it runs, and at each later start.  NotFound, Conflict, SpecError."""
    from fastdock.containers.starting import start_lock

    containers = container._containers
    networks = containers.engine.networks
    found = networks.get(attachment.network)
    with start_lock(container):
        record = containers.record(container.id)
        joined = _names(record)
        if {"host", "none"} & set(joined) or any(":" in name for name in joined):
            raise Conflict(f"container {container.name} cannot join networks: its network is {joined[0]}")
        if found.name in joined:
            raise Conflict(f"container {container.name} is on the network {found.name} already")
        if attachment.links and found.name == "bridge":
            raise SpecError("links on the network bridge are given when a container is created")
        if container.state.running:
            networks.join(attachment._replace(network=found.id), container.id, _ports(containers, record))
            container._tell_networks()
        special = [
            ("ip", attachment.ip), ("ip6", attachment.ip6), ("mac-address", attachment.mac),
            *(("alias", alias) for alias in attachment.aliases),
            *(("driver-opt", f"{key}={value}") for key, value in attachment.driver_opts),
            ("gw-priority", str(attachment.gw_priority or "")),
            *(("link", f"{target}:{alias}") for target, alias in attachment.links),
        ]  # fmt: skip
        words = [found.name, *(f"{key}={escaped(value)}" for key, value in special if value)]
        text = ",".join(filter(None, [record.document["options"].get("network", "none"), ";".join(words)]))
        _change_network(container, record, text)


def _ports(containers: Containers, record: Record) -> NetworkOptions:
    """What it was to publish."""
    from fastdock.network import NetworkOptions

    options = record.document["options"]
    document = containers.engine.networks.document(record.id)
    return NetworkOptions(
        publish=tuple(options.get("publish", ())),
        publish_all=bool(options.get("publish_all")),
        exposed=document.exposed if document else (),
    )


def disconnect(container: Container, network: str) -> None:
    """Leaves a network, at once if it runs, and for good.  NotFound."""
    from fastdock.containers.starting import start_lock

    containers = container._containers
    networks = containers.engine.networks
    found = networks.get(network)
    with start_lock(container):
        record = containers.record(container.id)
        entries = record.document["options"].get("network", "none").split(",")
        left = [entry for entry in entries if entry.partition(";")[0] not in (found.name, found.id)]
        if left == entries:
            raise NotFound(f"container {container.name} is not on the network {found.name}")
        if container.state.running:
            networks.disconnect(found.id, container.id)
            container._tell_networks()
        _change_network(container, record, ",".join(left))


def _change_network(container: Container, record: Record, text: str) -> None:
    options = {**record.document["options"], "network": text}
    if text.split(",")[0] != _first(record):  # these are of the first network, which it has left
        for name in ("ip", "ip6", "mac_address"):
            options.pop(name, None)
    container._change_document({"options": options})


def _first(record: Record) -> str:
    return str(record.document["options"].get("network", "none")).split(",")[0]


def _names(record: Record) -> list[str]:
    text = record.document["options"].get("network", "none")
    return [entry.partition(";")[0] for entry in text.split(",") if entry]


def names_text(record: Record) -> str:
    """The column of ``docker ps``: the names of its networks."""
    return ",".join(_names(record))


def give_back(containers: Containers, record: Record) -> None:
    """The container is being removed."""
    if uses_networks(record):
        from fastdock.endpoint import give_back as give

        give(containers.engine.networks, containers.engine.run_directory, record.id)


def requested_document(containers: Containers, options: Options, container_name: str) -> dict[str, Any]:
    """What ``HostConfig`` of ``docker inspect`` says of networks: what was asked for."""
    bindings: dict[str, list[dict[str, str]]] = {}
    if options.publish:
        from fastdock.network.ports import parse_port

        for spec in (spec for text in options.publish for spec in parse_port(text)):
            outer = spec.host_ports
            port = "" if outer is None else str(outer[0]) + (f"-{outer[-1]}" if len(outer) > 1 else "")
            binding = {"HostIp": spec.host, "HostPort": port}
            bindings.setdefault(f"{spec.container_port}/{spec.protocol}", []).append(binding)
    mode = first_network(options) or "none"
    links: list[str] = []
    if options.link and mode == "bridge":
        from fastdock.network.model import parse_link

        pairs = map(parse_link, options.link)
        links = [f"/{_name_of(containers, other)}:/{container_name}/{alias}" for other, alias in pairs]
    return {
        "Links": links or None,
        "NetworkMode": mode,
        "PortBindings": dict(sorted(bindings.items(), key=_port_order)),
        "PublishAllPorts": options.publish_all,
        "Dns": list(options.dns),
        "DnsOptions": list(options.dns_option),
        "DnsSearch": list(options.dns_search),
        "ExtraHosts": list(options.add_host) or None,
    }


def settings_document(containers: Containers, record: Record) -> dict[str, Any]:
    """``NetworkSettings`` of ``docker inspect``; empty of addresses when it does not run."""
    if not uses_networks(record):
        return {
            **_NO_ADDRESSES,
            "Ports": {},
            "Networks": {name: {**_NO_ADDRESSES} for name in _names(record)},
        }
    document = containers.engine.networks.document(record.id)
    if document is None:
        return {
            **_NO_ADDRESSES,
            "Ports": {},
            "Networks": {name: {**_NO_ADDRESSES} for name in _names(record)},
        }
    from fastdock.containers.settings import load_options
    from fastdock.endpoint import attachments_of
    from fastdock.network.ports import AF_INET6

    options = load_options(record.document["options"])

    ports: dict[str, list[dict[str, str]] | None] = dict.fromkeys(document.exposed)
    for port in document.ports:
        host = port.host or ("::" if port.family == AF_INET6 else "0.0.0.0")
        binding = {"HostIp": host, "HostPort": str(port.host_port)}
        inside = f"{port.container_port}/{port.protocol}"
        ports[inside] = [*(ports.get(inside) or ()), binding]
    ports = dict(sorted(ports.items(), key=_port_order))
    asked = {entry.network: entry for entry in attachments_of(options)}
    own = {record.name, *document.hostname.split()} - {record.id[:12]}
    networks = {}
    for endpoint in document.endpoints:
        v4 = next((a for a in endpoint.addresses if ":" not in a), "")
        v6 = next((a for a in endpoint.addresses if ":" in a), "")
        names = [name for name in endpoint.names if not name.endswith(f".{endpoint.network}")]
        networks[endpoint.network] = {
            "IPAMConfig": _wanted_addresses(asked.get(endpoint.network)),
            "Links": _links_of(endpoint),
            "DriverOpts": dict(endpoint.driver_opts) or None,
            "GwPriority": endpoint.gw_priority,
            "NetworkID": endpoint.network_id,
            "EndpointID": endpoint_id(record.id, endpoint.network_id),
            "Aliases": [name for name in names if name not in own] or None,
            "DNSNames": names or None,
            "IPAddress": v4.partition("/")[0],
            "IPPrefixLen": int(v4.partition("/")[2] or 0),
            "Gateway": next((gateway for gateway in endpoint.gateways if ":" not in gateway), ""),
            "GlobalIPv6Address": v6.partition("/")[0],
            "GlobalIPv6PrefixLen": int(v6.partition("/")[2] or 0),
            "IPv6Gateway": next((gateway for gateway in endpoint.gateways if ":" in gateway), ""),
            "MacAddress": endpoint.mac,
        }
    first = next(iter(networks.values()), {})
    addresses = {key: first.get(key, missing) for key, missing in _NO_ADDRESSES.items()}
    return {**_sandbox(containers, record), **addresses, "Ports": ports, "Networks": networks}


def _links_of(endpoint: NetworkEndpoint) -> list[str] | None:
    """Those on the default bridge are the container's: ``HostConfig``."""
    if endpoint.network == "bridge":
        return None
    return [f"{target}:{alias}" for target, alias in endpoint.links] or None


def _sandbox(containers: Containers, record: Record) -> dict[str, Any]:
    """Where its network namespace is, and what Docker says of things that are not here."""
    pid = containers.state(record.id).pid
    return {
        "Bridge": "", "SandboxID": record.id if pid else "", "SandboxKey": f"/proc/{pid}/ns/net" if pid else "",
        "HairpinMode": False, "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None, "SecondaryIPv6Addresses": None,
    }  # fmt: skip


def _wanted_addresses(asked: Attachment | None) -> dict[str, str] | None:
    if asked is None or not (asked.ip or asked.ip6):
        return None
    given = {"IPv4Address": asked.ip, "IPv6Address": asked.ip6}
    return {key: value for key, value in given.items() if value}


def _port_order(item: tuple[str, object]) -> tuple[int, str]:
    """By number, as Docker's command line prints them."""
    number, _, protocol = item[0].partition("/")
    return int(number), protocol


def endpoint_id(container_id: str, network_id: str) -> str:
    """What Docker's users know a container's place on a network by."""
    import hashlib

    return hashlib.sha256(f"{container_id} {network_id}".encode()).hexdigest()


def ports_text(containers: Containers, record: Record) -> str:
    """The column of ``docker ps``: ``0.0.0.0:8080->80/tcp``."""
    if not uses_networks(record):
        return ""
    found = settings_document(containers, record)["Ports"]
    words = []
    for inside, bindings in found.items():
        if bindings is None:
            words.append(inside)
        for binding in bindings or ():
            host = binding["HostIp"]
            words.append(f"{f'[{host}]' if ':' in host else host}:{binding['HostPort']}->{inside}")
    return ", ".join(words)
