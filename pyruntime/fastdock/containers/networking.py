"""The networks of kept containers: taken before the start, kept by the monitor, given back after the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastdock.containers.records import Record
from fastdock.options import Options

if TYPE_CHECKING:
    from fastdock.containers.manager import Containers
    from fastdock.endpoint import Endpoint


_NO_ADDRESSES: dict[str, Any] = {  # otherwise those of the first network
    "IPAddress": "", "IPPrefixLen": 0, "Gateway": "", "MacAddress": "",
    "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "IPv6Gateway": "",
}  # fmt: skip


def uses_networks(record: Record) -> bool:
    """Whether it has more than a loopback device of its own."""
    return record.document["options"].get("network", "none") not in ("none", "host")


def open_endpoint(
    containers: Containers, record: Record, options: Options, exposed: tuple[str, ...]
) -> Endpoint | None:
    """Takes addresses and ports for a start.  NotFound, Conflict, SpecError.

    The caller holds the container's lock, and it does not run: so what is recorded of it is from the last time.
    """
    from fastdock.endpoint import Endpoint, give_back

    if not uses_networks(record):
        return None
    engine = containers.engine
    engine.networks.collect()  # those that have ended meanwhile may have the port that is wanted
    give_back(engine.networks, engine.run_directory, record.id)
    endpoint = Endpoint(
        engine.networks, engine.run_directory, record.id, options._replace(name=record.name), exposed
    )
    endpoint.keep(f"{containers.run_directory}/{record.id}", starting=True)
    return endpoint


def give_back(containers: Containers, record: Record) -> None:
    """The container is being removed."""
    if uses_networks(record):
        from fastdock.endpoint import give_back as give

        give(containers.engine.networks, containers.engine.run_directory, record.id)


def settings_document(containers: Containers, record: Record) -> dict[str, Any]:
    """``NetworkSettings`` of ``docker inspect``; empty of addresses when it does not run."""
    document = containers.engine.networks.document(record.id) if uses_networks(record) else None
    if document is None:
        return {**_NO_ADDRESSES, "Ports": {}, "Networks": {}}
    ports: dict[str, list[dict[str, str]]] = {}
    for port in document.ports:
        host = port.host or ("::" if ":" in port.container else "0.0.0.0")
        binding = {"HostIp": host, "HostPort": str(port.host_port)}
        ports.setdefault(f"{port.container_port}/{port.protocol}", []).append(binding)
    networks = {}
    for endpoint in document.endpoints:
        v4 = next((a for a in endpoint.addresses if ":" not in a), "")
        v6 = next((a for a in endpoint.addresses if ":" in a), "")
        networks[endpoint.network] = {
            "NetworkID": endpoint.network_id,
            "Aliases": list(endpoint.names) or None,
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
    return {**addresses, "Ports": ports, "Networks": networks}


def ports_text(containers: Containers, record: Record) -> str:
    """The column of ``docker ps``: ``0.0.0.0:8080->80/tcp``."""
    if not uses_networks(record):
        return ""
    found = settings_document(containers, record)["Ports"]
    words = []
    for inside, bindings in found.items():
        for binding in bindings:
            host = binding["HostIp"]
            words.append(f"{f'[{host}]' if ':' in host else host}:{binding['HostPort']}->{inside}")
    return ", ".join(words)
