"""Making networks and removing them: the database's rows and the kernel's devices, together."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from fastdock import _core
from fastdock._core import net
from fastdock._errors import Conflict, KernelError, NotFound, SpecError
from fastdock._light import Pattern, sqlite3

from . import details, host, ipam, repairing, rules
from .ipam import Subnet
from .model import CONFIGURATION, DEFAULT, PREDEFINED, Network, NetworkRequest

TYPE_CHECKING = False  # see fastdock._light
if TYPE_CHECKING:
    from .networks import Networks

_NAME = Pattern(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


def make(networks: Networks, request: NetworkRequest) -> Network:
    """See Networks.create()."""
    name = request.name
    if not _NAME.fullmatch(name):
        raise SpecError(f"bad network name {name!r}: letters, digits, '_', '.', '-'")
    for label in request.labels:
        if not label:
            raise SpecError("a label has an empty name")
    if request.ipam_driver != "default":
        raise SpecError(f"no such IPAM driver: {request.ipam_driver}; there is default")
    if request.config_from:
        request = _like(networks, request)
    network_id = os.urandom(32).hex()
    device = (
        ""
        if request.config_only
        else details.device_of(
            request.driver,
            request.options,
            f"fd-{network_id[:12]}" if name != DEFAULT else networks._default_bridge,
        )
    )
    with networks._transaction() as db:
        if db.execute("SELECT 1 FROM networks WHERE name = ?", (name,)).fetchone():
            raise Conflict(f"the network {name} exists already", operation="create network")
        if name == DEFAULT:
            repairing.remove_orphans(networks)
            net.remove_link(device)  # of this root, before it was deleted with its database
        made = _network(db, request, network_id, device)
        _insert(db, made, request)
        repairing.set_up(networks, made)  # inside the transaction: if it fails, nothing is recorded
    return made


def _like(networks: Networks, request: NetworkRequest) -> NetworkRequest:
    """With all that the network has which is to be copied.  NotFound, SpecError."""
    if request.config_only:
        raise SpecError("a configuration cannot be made like another one")
    given = request._replace(config_from="")
    if given != NetworkRequest(
        given.name, given.driver, internal=given.internal, attachable=given.attachable, labels=given.labels
    ):
        raise SpecError(f"all of the network's options are those of {request.config_from}: give none")
    origin = networks.get(request.config_from)
    if not origin.config_only:
        raise SpecError(f"the network {origin.name} is no configuration: it was not made with --config-only")
    return request._replace(
        config_from=origin.name,
        options=origin.options,
        labels={**origin.labels, **request.labels},
        **{name: origin.more[name] for name in _COPIED if name in origin.more},
    )


_COPIED = ("subnets", "gateways", "ip_ranges", "aux_addresses", "ipv4", "ipv6", "ipam_options")
_KEPT = ("attachable", "config_from", "ipam_options", "aux_addresses")


def _network(db: sqlite3.Connection, request: NetworkRequest, network_id: str, device: str) -> Network:
    kept = (*_COPIED, *_KEPT) if request.config_only else _KEPT
    plain, fields = NetworkRequest(""), request._asdict()
    more = {name: fields[name] for name in kept if fields[name] != getattr(plain, name)}
    if request.driver == "bridge" and device and _is_somebody_elses(db, device):
        more["adopted"] = True
    elif request.driver == "macvlan" and device and not _exists(device):
        more["made_parent"] = True
    made = Network(
        network_id,
        request.name,
        CONFIGURATION if request.config_only else request.driver,
        device,
        request.internal,
        () if request.config_only else _subnets(db, request),
        dict(request.options),
        dict(request.labels),
        time.time(),
        more,
    )
    # All options are read once: bad ones are refused here.
    _ = made.icc, made.masquerade, made.mtu, made.host_binding, made.interface_prefix
    return made


def _is_somebody_elses(db: sqlite3.Connection, device: str) -> bool:
    """Whether the bridge is there already: then it stays when the network goes.  Conflict: another network's."""
    row = db.execute("SELECT name FROM networks WHERE device = ? AND driver = 'bridge'", (device,)).fetchone()
    if row is not None:
        raise Conflict(f"the bridge {device} is that of the network {row[0]}", operation="create network")
    return _exists(device)


def _exists(device: str) -> bool:
    try:
        net.find_link(device)
    except KernelError:
        return False
    return True


def _insert(db: sqlite3.Connection, made: Network, request: NetworkRequest) -> None:
    db.execute(
        "INSERT INTO networks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            made.id,
            made.name,
            made.driver,
            made.device,
            made.internal,
            _core.dump_json(made.options),
            _core.dump_json(made.labels),
            made.created,
            _core.dump_json(made.more),
        ),
    )
    for subnet in made.subnets:
        nothing = bytes(4 if subnet.version == 4 else 16)
        db.execute(
            "INSERT INTO network_subnets VALUES (?, ?, ?, ?, ?, ?)",
            (made.id, subnet.version, subnet.subnet, subnet.gateway, subnet.ip_range, nothing),
        )
        for name, address in request.aux_addresses.items():
            if details.contains(subnet.subnet, address):
                ipam.reserve(db, made.id, subnet, name, address)


def _subnets(db: sqlite3.Connection, request: NetworkRequest) -> tuple[Subnet, ...]:
    used = [text for (text,) in db.execute("SELECT subnet FROM network_subnets")]
    ranges = {text: text.partition("/")[0] for text in request.ip_ranges}
    made: dict[int, Subnet] = {}
    for text in request.subnets:
        doors = [g for g in request.gateways if details.contains(text, g)]
        given = [r for r, address in ranges.items() if details.contains(text, address)]
        if len(doors) > 1 or len(given) > 1:
            raise SpecError(f"the subnet {text} has one gateway and one range of addresses")
        subnet = ipam.make_subnet(text, *doors, **({"ip_range": given[0]} if given else {}))
        if subnet.version in made:
            raise SpecError("a network has one subnet of each IP version")
        details.refuse_overlap(subnet, used)
        made[subnet.version] = subnet
    for text in (*request.gateways, *ranges.values(), *request.aux_addresses.values()):
        if not any(details.contains(subnet.subnet, text) for subnet in made.values()):
            raise SpecError(f"{text} is in none of the network's subnets")
    if 4 in made and not request.ipv4:
        raise SpecError(f"the subnet {made[4].subnet} contradicts --ipv4=false")
    if not (request.ipv4 or request.ipv6 or made):
        raise SpecError("a network has addresses of IPv4, of IPv6, or of both")
    used += net.used_prefixes()
    if request.ipv4 and 4 not in made:
        made[4] = ipam.make_subnet(ipam.pick_subnet(4, used))
    if request.ipv6 and 6 not in made:
        made[6] = ipam.make_subnet(ipam.pick_subnet(6, used))
    return tuple(made[version] for version in sorted(made))


def remove(networks: Networks, reference: str) -> Network:
    """See Networks.remove()."""
    if reference in PREDEFINED:
        raise Conflict(f"the network {reference} is predefined and stays", operation="remove network")
    network = networks.get(reference)
    networks.collect()
    with networks._transaction() as db:
        if users := networks.endpoints(network):
            names = ", ".join(name for name, _ in users.values())
            raise Conflict(f"the network {network.name} is in use by {names}", operation="remove network")
        if network.config_only and (alike := ", ".join(_made_like(networks, network.name))):
            raise Conflict(
                f"the configuration {network.name} is in use by {alike}",
                operation="remove network",
            )
        db.execute("DELETE FROM networks WHERE id = ?", (network.id,))
        if network.driver == "bridge":
            gone = net.FirewallRules()
            rules.add_network(gone, network)
            net.remove_rules(networks._scope, gone)
            host.forget_in_other_firewalls(network.device)
            if not network.more.get("adopted"):
                net.remove_link(network.device)
        elif network.more.get("made_parent") and not networks._stored("device = ?", (network.device,)):
            net.remove_link(network.device)
    return network


def _made_like(networks: Networks, name: str) -> list[str]:
    return [network.name for network in networks._stored() if network.more.get("config_from") == name]


def prune(networks: Networks, keep: Callable[[Network], bool] | None) -> Sequence[Network]:
    """See Networks.prune()."""
    removed: list[Network] = []
    for network in networks._stored("name != ? AND driver != ?", (DEFAULT, CONFIGURATION)):
        if keep is not None and keep(network):
            continue
        try:
            removed.append(networks.remove(network.id))
        except (Conflict, NotFound):
            continue
    return removed
