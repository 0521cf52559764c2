"""Making networks and removing them: the database's rows and the kernel's devices, together."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence

from fastdock import _core
from fastdock._core import net
from fastdock._errors import Conflict, NotFound, SpecError
from fastdock._light import Pattern, sqlite3

from . import details, host, ipam, repairing, rules
from .ipam import Subnet
from .model import DEFAULT, PREDEFINED, Network

TYPE_CHECKING = False  # see fastdock._light
if TYPE_CHECKING:
    from .networks import Networks

_NAME = Pattern(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


def make(
    networks: Networks,
    name: str,
    driver: str,
    subnets: Sequence[str],
    gateways: Sequence[str],
    ip_ranges: Sequence[str],
    internal: bool,
    ipv6: bool,
    options: Mapping[str, str],
    labels: Mapping[str, str],
) -> Network:
    """See Networks.create()."""
    if not _NAME.fullmatch(name):
        raise SpecError(f"bad network name {name!r}: letters, digits, '_', '.', '-'")
    network_id = os.urandom(32).hex()
    device = details.device_of(
        driver, options, f"fd-{network_id[:12]}" if name != DEFAULT else networks._default_bridge
    )
    with networks._transaction() as db:
        if db.execute("SELECT 1 FROM networks WHERE name = ?", (name,)).fetchone():
            raise Conflict(f"the network {name} exists already", operation="create network")
        if name == DEFAULT:
            repairing.remove_orphans(networks)
            net.remove_link(device)  # of this root, before it was deleted with its database
        made = Network(
            network_id,
            name,
            driver,
            device,
            internal,
            _subnets(db, subnets, gateways, ip_ranges, ipv6),
            dict(options),
            dict(labels),
            time.time(),
        )
        _ = made.icc, made.masquerade, made.mtu  # all options are read once: bad ones are refused here
        db.execute(
            "INSERT INTO networks VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                made.id,
                name,
                driver,
                device,
                internal,
                _core.dump_json(made.options),
                _core.dump_json(made.labels),
                made.created,
            ),
        )
        for subnet in made.subnets:
            db.execute(
                "INSERT INTO network_subnets VALUES (?, ?, ?, ?, ?, ?)",
                (
                    made.id,
                    subnet.version,
                    subnet.subnet,
                    subnet.gateway,
                    subnet.ip_range,
                    bytes(4 if subnet.version == 4 else 16),
                ),
            )
        repairing.set_up(networks, made)  # inside the transaction: if it fails, nothing is recorded
    return made


def _subnets(
    db: sqlite3.Connection,
    subnets: Sequence[str],
    gateways: Sequence[str],
    ip_ranges: Sequence[str],
    ipv6: bool,
) -> tuple[Subnet, ...]:
    used = [text for (text,) in db.execute("SELECT subnet FROM network_subnets")]
    made: dict[int, Subnet] = {}
    for text in subnets:
        door = next((g for g in gateways if details.contains(text, g)), "")
        given = next((r for r in ip_ranges if details.contains(text, r.partition("/")[0])), "")
        subnet = ipam.make_subnet(text, door, given)
        if subnet.version in made:
            raise SpecError("a network has one subnet of each IP version")
        details.refuse_overlap(subnet, used)
        made[subnet.version] = subnet
    for text in (*gateways, *(r.partition("/")[0] for r in ip_ranges)):
        if not any(details.contains(subnet.subnet, text) for subnet in made.values()):
            raise SpecError(f"{text} is in none of the network's subnets")
    used += net.used_prefixes()
    if 4 not in made:
        made[4] = ipam.make_subnet(ipam.pick_subnet(4, used))
    if ipv6 and 6 not in made:
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
        db.execute("DELETE FROM networks WHERE id = ?", (network.id,))
        if network.driver == "bridge":
            gone = net.FirewallRules()
            rules.add_network(gone, network)
            net.remove_rules(networks._scope, gone)
            host.forget_in_other_firewalls(network.device)
            net.remove_link(network.device)
    return network


def prune(networks: Networks, keep: Callable[[Network], bool] | None) -> Sequence[Network]:
    """See Networks.prune()."""
    removed: list[Network] = []
    for network in networks._stored("name != ?", (DEFAULT,)):
        if keep is not None and keep(network):
            continue
        try:
            removed.append(networks.remove(network.id))
        except (Conflict, NotFound):
            continue
    return removed
