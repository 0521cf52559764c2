"""Joining a running container to a network, and taking it off."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from fastdock._core import net
from fastdock._errors import Conflict, ContainerNotFound, ContainerNotRunning, NotFound, SpecError
from fastdock._light import sqlite3

from . import details, files, planning, resolver, rules
from .model import Attachment, Document, Endpoint, Network, NetworkOptions, document_from
from .ports import PublishedPort
from .ports import target as target_of

TYPE_CHECKING = False  # see fastdock._light
if TYPE_CHECKING:
    from .networks import Networks


_LARGEST_FILE = 1 << 20  # bytes of an /etc/hosts that is still kept up to date


def running(networks: Networks, reference: str) -> tuple[str, int, Document]:
    """Id, init process and document.  Raises ContainerNotFound, ContainerNotRunning, SpecError."""
    rows = networks._database.execute(
        "SELECT container_id, owner, document FROM network_containers"
        " WHERE name = ?1 OR substr(container_id, 1, length(?1)) = ?1",
        (reference,),
    ).fetchall()
    if not reference or not rows:
        raise ContainerNotFound(f"no such container: {reference}", operation="find container")
    if len(rows) > 1:
        raise SpecError(f"several containers are called {reference}")
    container_id, owner, text = rows[0]
    pid = details.process_of(owner)
    if pid is None:
        raise ContainerNotRunning(f"the container {reference} is not running")
    return container_id, pid, document_from(text)


def connect(
    networks: Networks,
    network: Network,
    attachment: Attachment,
    container_id: str,
    pid: int,
    document: Document,
    publish: NetworkOptions | None = None,
) -> Endpoint:
    """See Networks.connect()."""
    if any(endpoint.network_id == network.id for endpoint in document.endpoints):
        raise Conflict(f"the container {container_id[:12]} is on the network {network.name} already")
    if document.egress is not None and network.driver != "bridge":
        raise SpecError("an egress policy needs bridge networks")
    if not networks._is_whole([network]):
        networks.repair()
    used = {endpoint.name for endpoint in document.endpoints}
    routed = _routed(document.endpoints)
    leads_out = bool(planning.ways_out(network, routed))
    with networks._transaction() as db:
        row = db.execute(
            "SELECT name FROM network_containers WHERE container_id = ?", (container_id,)
        ).fetchone()
        if row is None:  # it has just ended
            raise ContainerNotRunning(f"the container {container_id[:12]} is not running")
        (name,) = row
        endpoint = planning.make_endpoint(
            db,
            network,
            attachment,
            container_id,
            name if name != container_id[:12] else "",
            document.hostname.partition(" ")[0],
            used,
            networks._scope.port_prefix,
            routed,
        )
        ports: tuple[PublishedPort, ...] = ()
        if publish is not None and leads_out and not document.ports:
            ports = tuple(planning.publish(db, publish, [endpoint], container_id))
        changed = document._replace(
            endpoints=(*document.endpoints, endpoint),
            ports=(*document.ports, *ports),
            uses_resolver=document.uses_resolver or bool(endpoint.names),
        )
        db.execute("INSERT INTO network_endpoints VALUES (?, ?)", (network.id, container_id))
        _store_document(db, container_id, changed)
        part = Document((endpoint,), ports, document.egress)
        net.attach_process(rules.attach_plan(networks._scope, part, "", ""), pid)
    networks._ensure_relay([part])
    _tell_resolver(networks, container_id, pid, document, changed)
    _rewrite_files(networks, container_id, changed, added=endpoint.plain_addresses)
    return endpoint


def disconnect(networks: Networks, network: Network, container_id: str, pid: int, document: Document) -> None:
    """See Networks.disconnect()."""
    gone = [endpoint for endpoint in document.endpoints if endpoint.network_id == network.id]
    if not gone:
        raise NotFound(f"the container {container_id[:12]} is not on the network {network.name}")
    addresses = {address for endpoint in gone for address in endpoint.plain_addresses}
    ports = tuple(port for port in document.ports if port.container in addresses)
    left = tuple(endpoint for endpoint in document.endpoints if endpoint not in gone)
    door = _next_door(networks, left) if any(endpoint.gateways for endpoint in gone) else None
    moved: list[PublishedPort] = []
    if door is not None:
        left = tuple(door if endpoint.name == door.name else endpoint for endpoint in left)
        targets = planning.door_of([door])
        moved = [
            port._replace(container=target[0], relayed=target[1])
            for port in ports
            if (target := target_of(port.protocol, port.family, targets)) is not None
        ]
    kept = tuple(port for port in document.ports if port not in ports)
    changed = document._replace(endpoints=left, ports=(*kept, *moved))
    part = Document(tuple(gone), ports, document.egress)
    net.detach(rules.attach_plan(networks._scope, part, "", ""))
    if door is not None:
        net.add_default_routes(pid, door.name, door.gateways)
        added = net.FirewallRules()
        rules.add_ports(added, moved)
        net.add_rules(networks._scope, added)
        networks._ensure_relay([changed])
    kept_places = {(port.family, *port[:3]) for port in moved}
    lost = [port for port in ports if (port.family, *port[:3]) not in kept_places]
    with networks._transaction() as db:
        db.execute(
            "DELETE FROM network_addresses WHERE container_id = ? AND network_id = ?",
            (container_id, network.id),
        )
        db.executemany(
            "DELETE FROM network_ports WHERE family = ? AND protocol = ? AND port = ? AND host = ?",
            [(port.family, port.protocol, port.host_port, port.host) for port in lost],
        )
        db.execute(
            "DELETE FROM network_endpoints WHERE network_id = ? AND container_id = ?",
            (network.id, container_id),
        )
        _store_document(db, container_id, changed)
    _tell_resolver(networks, container_id, pid, document, changed)
    _rewrite_files(networks, container_id, changed, removed=addresses)


def _next_door(networks: Networks, endpoints: Iterable[Endpoint]) -> Endpoint | None:
    """The network that leads out from now on, with its gateways."""
    endpoints = sorted(endpoints, key=lambda endpoint: -endpoint.gw_priority)
    routed = _routed(endpoints)
    for endpoint in endpoints:
        if doors := planning.ways_out(networks.get(endpoint.network_id), routed):
            return endpoint._replace(gateways=(*endpoint.gateways, *doors))
    return None


def _routed(endpoints: Iterable[Endpoint]) -> set[int]:
    return planning.versions_of(door for endpoint in endpoints for door in endpoint.gateways)


def rename(networks: Networks, container_id: str, name: str) -> None:
    """See Networks.rename()."""
    with networks._transaction() as db:
        row = db.execute(
            "SELECT name, document FROM network_containers WHERE container_id = ?", (container_id,)
        ).fetchone()
        if row is None:
            return
        old, document = row[0], document_from(row[1])
        renames = {old: name, **{f"{old}.{e.network}": f"{name}.{e.network}" for e in document.endpoints}}
        changed = document._replace(
            endpoints=tuple(
                endpoint._replace(names=tuple(renames.get(each, each) for each in endpoint.names))
                for endpoint in document.endpoints
            )
        )
        db.execute("UPDATE network_containers SET name = ? WHERE container_id = ?", (name, container_id))
        _store_document(db, container_id, changed)
    if changed.uses_resolver:
        networks._ensure_resolver()
        net.register_container(networks.resolver_socket, resolver.record(container_id, changed))


def _rewrite_files(
    networks: Networks,
    container_id: str,
    document: Document,
    added: Sequence[str] = (),
    removed: Iterable[str] = (),
) -> None:
    """The container's /etc/hosts, and its /etc/resolv.conf where it begins to use our resolver."""
    prefix = details.files_prefix(networks._run_directory, container_id)
    _rewrite(f"{prefix}hosts", lambda text: files.hosts_with(text, document.hostname, added, tuple(removed)))
    if document.uses_resolver:
        _rewrite(f"{prefix}resolv.conf", _through_resolver)


def _through_resolver(text: str) -> str:
    if f"nameserver {files.RESOLVER}\n" in text:
        return text
    return files.resolv_conf(files.through_resolver(files.parse_resolv_conf(text)))


def _rewrite(path: str, change: Callable[[str], str]) -> None:
    """In place: the container has the file mounted."""
    try:
        # The container's root may write this file: it may not be text, and as large as it likes.  A link it
        # cannot become, since it is a mount there.
        with open(path, "r+", encoding="utf-8", errors="surrogateescape", newline="") as file:
            if os.fstat(file.fileno()).st_size > _LARGEST_FILE:
                return
            text = change(file.read())
            file.seek(0)
            file.truncate()
            file.write(text)
    except FileNotFoundError:  # a container of somebody who keeps no such files
        pass


def _store_document(db: sqlite3.Connection, container_id: str, document: Document) -> None:
    db.execute(
        "UPDATE network_containers SET document = ?, resolver = ? WHERE container_id = ?",
        (document.to_json(), document.uses_resolver, container_id),
    )


def _tell_resolver(networks: Networks, container_id: str, pid: int, before: Document, now: Document) -> None:
    if not now.uses_resolver:
        return
    record = resolver.record(container_id, now)
    networks._ensure_resolver()
    # If it was only started now, it knows this container already, like all the others.
    if before.uses_resolver or container_id in net.list_registered(networks.resolver_socket).split():
        net.register_container(networks.resolver_socket, record)
    else:
        net.reconnect_resolver(rules.attach_plan(networks._scope, now, networks.resolver_socket, record), pid)
