"""Making the kernel's state again what the database says, and taking it down."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterable, Mapping

from fastdock._core import net
from fastdock._errors import Conflict, KernelError

from . import details, host, ipam, relay, resolver, rules
from .model import Document, Network, document_from

TYPE_CHECKING = False  # see fastdock._light
if TYPE_CHECKING:
    from .networks import Networks


def repair(networks: Networks) -> None:
    """See Networks.repair()."""
    networks.collect()
    # Whoever starts a container meanwhile is recorded before, and so among these, or adds its own elements after.
    # (The transaction's end tells the holder the ports, without root.)
    with networks._transaction():
        stored, documents = networks._stored(), networks._documents()
        _remove_stray_ports(networks, documents.values())
        _rebuild(networks, stored, documents)
    networks._ensure_relay(documents.values())
    for network in stored:
        set_up(networks, network)
    if any(document.uses_resolver for document in documents.values()):
        networks._ensure_resolver()


def _rebuild(networks: Networks, stored: Iterable[Network], documents: Mapping[str, Document]) -> None:
    """The firewall's tables, inside a transaction."""
    everything = rules.all_rules(stored, documents.values())
    everything.relay_port = relay.port_of(networks.relay_socket)
    net.rebuild_firewall(networks._scope, everything)
    # One that has ended since it was read may have removed its elements already; it is forgotten after us.
    owners = networks._database.execute("SELECT container_id, owner FROM network_containers").fetchall()
    for container_id, owner in owners:
        if container_id in documents and not details.is_alive(owner):
            gone = net.FirewallRules()
            rules.add_container(gone, documents[container_id])
            net.remove_rules(networks._scope, gone)


def set_up(networks: Networks, network: Network) -> None:
    """The network's part of the kernel's state; good at any time."""
    networks._need_way_out()
    if network.config_only:
        return
    if network.driver == "macvlan":
        _set_up_parent(network.device)
        return
    if not network.internal:
        host.enable_forwarding(network.ipv6)
    doors = [subnet.with_length(subnet.gateway) for subnet in network.subnets]
    net.ensure_bridge(
        network.device, doors, ipam.mac_of([subnet.gateway for subnet in network.subnets]), network.mtu
    )
    host.pass_other_firewalls(network.device)
    if not network.more.get("adopted"):
        note_device(networks, network.device)
    added = net.FirewallRules()
    rules.add_network(added, network)
    try:
        net.add_rules(networks._scope, added)
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
        others = [n for n in networks._stored() if n.id != network.id]
        _rebuild(networks, [*others, network], networks._documents())


def _set_up_parent(device: str) -> None:
    """The device below a macvlan's ports; ``eth0.10`` is made where it is not there (IEEE 802.1Q), as Docker does."""
    parent, dot, number = device.rpartition(".")
    if dot and parent and number.isdecimal() and 0 < int(number) < 4095:
        net.ensure_vlan(device, parent, int(number))
    else:
        net.find_link(device)


def _remove_stray_ports(networks: Networks, documents: Iterable[Document]) -> None:
    """Ports of containers that nobody knows any more, whose namespace somebody still holds."""
    known = {endpoint.host_name for document in documents for endpoint in document.endpoints}
    for _, name in socket.if_nameindex():
        if name.startswith(networks._scope.port_prefix) and name not in known:
            net.remove_link(name)


def take_down(networks: Networks) -> None:
    """See Networks.take_down()."""
    networks.collect()
    with networks._transaction() as db:
        if users := [name for (name,) in db.execute("SELECT name FROM network_containers")]:
            raise Conflict(
                f"containers are on networks: {', '.join(users)}", operation="take down the networks"
            )
        _remove_stray_ports(networks, ())
        for network in networks._stored("driver = 'bridge'"):
            host.forget_in_other_firewalls(network.device)
            if not network.more.get("adopted"):
                net.remove_link(network.device)
        net.remove_firewall(networks._scope)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_note_of(networks))


def note_device(networks: Networks, device: str) -> None:
    """Remembers, until the machine starts anew, what is in the kernel for this root: see remove_orphans()."""
    path = _note_of(networks)
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        file.seek(0)
        known = file.read().splitlines()
        for line in (networks._root, networks._scope.port_prefix) if not known else ():
            file.write(line + "\n")
        if device not in known[2:]:
            file.write(device + "\n")


def remove_orphans(networks: Networks) -> None:
    """Takes out of the kernel what belongs to roots that somebody has deleted: each has a subnet, and there are 31."""
    own = _note_of(networks)
    try:
        entries = list(os.scandir(os.path.dirname(own)))
    except FileNotFoundError:  # there is none
        return
    for entry in entries:
        with contextlib.suppress(FileNotFoundError):  # another process removes the same
            _remove_orphan(entry, own)


def _remove_orphan(entry: os.DirEntry[str], own: str) -> None:
    with open(entry.path, encoding="utf-8") as file:
        root, prefix, *devices = file.read().splitlines() or ("", "")
    if entry.path == own or not root or os.path.exists(f"{root}/fastdock.db"):
        return
    here = {name for _, name in socket.if_nameindex()}
    for device in here.intersection(devices):
        host.forget_in_other_firewalls(device)
        net.remove_link(device)
    net.remove_firewall(net.Scope(entry.name, prefix))
    os.unlink(entry.path)


def _note_of(networks: Networks) -> str:
    """A file for each root, called as its tables, in the directory that all roots' run directories are in."""
    directory = networks._run_directory
    if networks._scope.table != "fastdock":
        directory = os.path.dirname(directory)
    return f"{directory}/roots/{networks._scope.table}"


def start_resolver(networks: Networks) -> None:
    """Starts it, and tells it about the containers that are running already."""
    path, scope = networks.resolver_socket, networks._scope
    resolver.start(path, scope.table)
    known = set(net.list_registered(path).split())
    rows = networks._database.execute(
        "SELECT container_id, document, owner FROM network_containers WHERE resolver"
    )
    for container_id, text, owner in rows.fetchall():
        pid = details.process_of(owner)
        if container_id in known or pid is None:
            continue  # one that is being started registers itself
        document = document_from(text)
        record = resolver.record(container_id, document)
        try:
            net.reconnect_resolver(rules.attach_plan(scope, document, path, record), pid)
        except KernelError as error:
            if error.errno not in (errno.ENOENT, errno.ESRCH):  # it has just ended
                raise
