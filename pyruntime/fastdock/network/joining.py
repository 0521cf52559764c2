"""Joining a running container to a network, and taking it off."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from fastdock._core import net
from fastdock._errors import Conflict, ContainerNotFound, ContainerNotRunning, NotFound, SpecError
from fastdock._light import sqlite3

from . import details, files, planning, resolver, rules
from .model import DEFAULT, Attachment, Document, Endpoint, Network, NetworkOptions, document_from
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
    if attachment.links and network.name == DEFAULT:
        raise SpecError(f"links on the network {DEFAULT} are given when a container is created")
    if document.egress is not None and network.driver != "bridge":
        raise SpecError("an egress policy needs bridge networks")
    if not networks._is_whole([network]):
        networks.repair()
    used = {endpoint.name for endpoint in document.endpoints}
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
        )
        endpoints = _led_out(networks, (*document.endpoints, endpoint))
        endpoint = endpoints[-1]
        if publish is not None and endpoint.gateways and not document.ports:
            ports = tuple(planning.publish(db, publish, endpoints, container_id))
        else:
            ports = _led_in(document.ports, endpoints)
        changed = document._replace(
            endpoints=endpoints,
            ports=ports,
            uses_resolver=document.uses_resolver or bool(endpoint.names),
        )
        db.execute("INSERT INTO network_endpoints VALUES (?, ?)", (network.id, container_id))
        _store_document(db, container_id, changed)
        # Its default routes take the place of those there are.
        part = Document((endpoint,), (), document.egress)
        net.attach_process(rules.attach_plan(networks._scope, part, "", ""), pid)
        _move_ports(networks, document.ports, ports)
    networks._ensure_relay([changed])
    _tell_resolver(networks, container_id, pid, document, changed)
    _rewrite_files(networks, container_id, changed, added=endpoint.plain_addresses)
    return endpoint


def disconnect(networks: Networks, network: Network, container_id: str, pid: int, document: Document) -> None:
    """See Networks.disconnect()."""
    gone = [endpoint for endpoint in document.endpoints if endpoint.network_id == network.id]
    if not gone:
        raise NotFound(f"the container {container_id[:12]} is not on the network {network.name}")
    addresses = {address for endpoint in gone for address in endpoint.plain_addresses}
    left = _led_out(networks, (endpoint for endpoint in document.endpoints if endpoint not in gone))
    ports = _led_in(document.ports, left)
    changed = document._replace(endpoints=left, ports=ports)
    part = Document(
        tuple(gone), tuple(port for port in document.ports if port.container in addresses), document.egress
    )
    before = {endpoint.name: endpoint.gateways for endpoint in document.endpoints}
    places = {(port.family, *port[:3]) for port in ports}
    lost = [port for port in document.ports if (port.family, *port[:3]) not in places]
    with networks._transaction() as db:
        net.detach(rules.attach_plan(networks._scope, part, "", ""))
        for endpoint in left:
            if doors := [door for door in endpoint.gateways if door not in before[endpoint.name]]:
                net.add_default_routes(pid, endpoint.name, doors)
        _move_ports(networks, document.ports, ports)
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
    networks._ensure_relay([changed])
    _tell_resolver(networks, container_id, pid, document, changed)
    _rewrite_files(networks, container_id, changed, removed=addresses)


def _led_out(networks: Networks, endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """With the default routes that they have together."""
    return planning.lead_out((networks.get(endpoint.network_id), endpoint) for endpoint in endpoints)


def _led_in(ports: Iterable[PublishedPort], endpoints: Iterable[Endpoint]) -> tuple[PublishedPort, ...]:
    """Published ports lead to the addresses that answers leave from; those without one are lost."""
    targets = planning.door_of(endpoints)
    found = ((port, target_of(port.protocol, port.family, targets)) for port in ports)
    return tuple(port._replace(container=to[0], relayed=to[1]) for port, to in found if to is not None)


def _move_ports(networks: Networks, before: Sequence[PublishedPort], now: Sequence[PublishedPort]) -> None:
    if before == now:
        return
    gone, added = net.FirewallRules(), net.FirewallRules()
    rules.add_ports(gone, [port for port in before if port not in now])
    rules.add_ports(added, now)  # all: what several share must not go with one of them
    net.replace_rules(networks._scope, gone, added)


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
    rewrite(f"{prefix}hosts", lambda text: files.hosts_with(text, document.hostname, added, tuple(removed)))
    if document.uses_resolver:
        rewrite(f"{prefix}resolv.conf", _through_resolver)


def _through_resolver(text: str) -> str:
    if f"nameserver {files.RESOLVER}\n" in text:
        return text
    return files.resolv_conf(files.through_resolver(files.parse_resolv_conf(text)))


def rewrite(path: str, change: Callable[[str], str]) -> None:
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
