"""Which addresses are whose: subnets that collide with nothing, addresses that nobody else has.

Everything here runs inside a write transaction of the database, which is what makes it right among processes.
"""

from __future__ import annotations

import _socket  # socket itself takes 5 ms to import, ipaddress 2
import functools
import os

from fastdock._errors import Conflict, FastdockError, SpecError
from fastdock._light import NamedTuple, sqlite3

TYPE_CHECKING = False  # see fastdock._light
if TYPE_CHECKING:
    import ipaddress
    from collections.abc import Iterable, Iterator


_AUXILIARY = "aux "
"""In place of a container's id, before the name of who else has an address (``--aux-address``)."""


class Subnet(NamedTuple):
    """A network's addresses of one IP version."""

    version: int
    subnet: str
    gateway: str
    ip_range: str

    def with_length(self, address: str) -> str:
        """``address`` with the subnet's prefix length: "172.17.0.2/16"."""
        return f"{address}/{self.subnet.rpartition('/')[2]}"


def _pool() -> Iterator[ipaddress.IPv4Network]:
    """Docker's default address pools, in its order; where those 31 are used up, podman's (containers.conf(5))."""
    import ipaddress

    for second in range(17, 32):
        yield ipaddress.IPv4Network(f"172.{second}.0.0/16")
    for third in range(0, 256, 16):
        yield ipaddress.IPv4Network(f"192.168.{third}.0/20")
    for second in range(89, 100):
        for third in range(256):
            yield ipaddress.IPv4Network(f"10.{second}.{third}.0/24")


def pick_subnet(version: int, used: Iterable[str]) -> str:
    """A free subnet: of Docker's pools, or for IPv6 a random unique local one (RFC 4193).

    ``used`` are the prefixes of the host's routes and of other networks.  Raises FastdockError when none is left.
    """
    import ipaddress

    taken = [network for network in map(ipaddress.ip_network, used) if network.version == version]
    if version == 6:
        return f"fd{os.urandom(1).hex()}:{os.urandom(2).hex()}:{os.urandom(2).hex()}:1::/64"
    for candidate in _pool():
        if not any(candidate.overlaps(network) for network in taken):
            return str(candidate)
    raise FastdockError(
        "no subnet is free: all of 172.16.0.0/12, 192.168.0.0/16 and 10.89.0.0 to 10.99.255.255 is in use",
        operation="create network",
        hint="remove unused networks (network prune), or name a subnet: --subnet",
    )


def make_subnet(subnet: str, gateway: str = "", ip_range: str = "") -> Subnet:
    """Checks what the user gave.  Raises SpecError."""
    import ipaddress

    try:
        network = ipaddress.ip_network(subnet)
        given = ipaddress.ip_network(ip_range or subnet)
        door = ipaddress.ip_address(gateway) if gateway else network[1]
    except (ValueError, IndexError) as error:
        raise SpecError(f"bad network addresses: {error}", hint=_network_of(subnet)) from None
    if network.prefixlen > (30 if network.version == 4 else 126):
        raise SpecError(f"the subnet {subnet} has no room for containers")
    if given.version != network.version or not given.subnet_of(network):  # type: ignore[arg-type]
        raise SpecError(f"the ip range {ip_range} is not in the subnet {subnet}")
    if door not in network:
        raise SpecError(f"the gateway {gateway} is not in the subnet {subnet}")
    if door == network[0] or (network.version == 4 and door == network[-1]):
        raise SpecError(f"the gateway {gateway} is not an address of a host in the subnet {subnet}")
    return Subnet(network.version, str(network), str(door), str(given))


def _network_of(subnet: str) -> str:
    """What somebody may have meant who wrote an address of it."""
    import ipaddress

    try:
        return f"the network of this address is {ipaddress.ip_network(subnet, strict=False)}"
    except ValueError:
        return ""


def allocate(
    db: sqlite3.Connection,
    network_id: str,
    subnet: Subnet,
    container_id: str,
    wanted: str = "",
    preferred: str = "",
) -> str:
    """Takes ``wanted``, else ``preferred`` (of this subnet) if it is free, else the range's lowest free address.

    Raises Conflict, SpecError, FastdockError.
    """
    if wanted:
        return _allocate_fixed(db, network_id, subnet, container_id, wanted)
    if preferred and _is_free(db, network_id, preferred):
        return _allocate_fixed(db, network_id, subnet, container_id, preferred)
    key = (network_id, subnet.version)
    (free,) = db.execute(
        "SELECT free FROM network_subnets WHERE network_id = ? AND version = ?", key
    ).fetchone()
    first, last, gateway = _bounds(subnet)
    value = max(int.from_bytes(free), first)
    while not _insert(db, network_id, packed := _next(value, gateway, last, subnet), container_id):
        value = _first_gap(db, network_id, packed)
    db.execute(
        "UPDATE network_subnets SET free = ? WHERE network_id = ? AND version = ?",
        ((int.from_bytes(packed) + 1).to_bytes(len(packed)), *key),
    )
    return text_of(packed)


def _next(value: int, gateway: int, last: int, subnet: Subnet) -> bytes:
    """The address ``value``, or the one after it where that is the gateway.  FastdockError: there is none."""
    if value == gateway:
        value += 1
    if value > last:
        raise FastdockError(
            f"no address is free in {subnet.ip_range}",
            operation="take an address",
            hint="remove containers of this network, or use a network with a larger subnet",
        )
    return value.to_bytes(4 if subnet.version == 4 else 16)


def _first_gap(db: sqlite3.Connection, network_id: str, first: bytes) -> int:
    """The lowest address that nobody has, from ``first`` on."""
    value = int.from_bytes(first)
    for (taken,) in db.execute(
        "SELECT address FROM network_addresses WHERE network_id = ? AND address >= ? AND length(address) = ?"
        " ORDER BY address",
        (network_id, first, len(first)),
    ):
        if int.from_bytes(taken) > value:
            break
        value += 1
    return value


def _insert(db: sqlite3.Connection, network_id: str, packed: bytes, container_id: str) -> bool:
    """Whether the address was free, and is the container's now."""
    row = (network_id, packed, container_id)
    return (
        db.execute("INSERT INTO network_addresses VALUES (?, ?, ?) ON CONFLICT DO NOTHING", row).rowcount == 1
    )


def pack(address: str) -> bytes:
    """An address in the kernel's form: 4 or 16 bytes.  OSError unless it is one."""
    return _socket.inet_pton(_socket.AF_INET6 if ":" in address else _socket.AF_INET, address)


def text_of(packed: bytes) -> str:
    """The opposite of ``pack``."""
    return _socket.inet_ntop(_socket.AF_INET if len(packed) == 4 else _socket.AF_INET6, packed)


def _is_free(db: sqlite3.Connection, network_id: str, address: str) -> bool:
    packed = pack(address)
    row = db.execute(
        "SELECT 1 FROM network_addresses WHERE network_id = ? AND address = ?", (network_id, packed)
    ).fetchone()
    return row is None


@functools.lru_cache(64)
def _bounds(subnet: Subnet) -> tuple[int, int, int]:
    """The first and last address that may be given out, and the gateway, which may not."""
    whole, given = _ends(subnet.subnet), _ends(subnet.ip_range)
    first, last = given
    if first == whole[0]:
        first += 1  # the network's own address; for IPv6 the routers' anycast address
    if subnet.version == 4 and last == whole[1]:
        last -= 1
    return first, last, int.from_bytes(pack(subnet.gateway))


def _ends(network: str) -> tuple[int, int]:
    """The first and the last address of ``10.0.0.0/8``."""
    address, _, length = network.partition("/")
    packed = pack(address)
    first = int.from_bytes(packed)
    return first, first | (1 << 8 * len(packed) - int(length)) - 1


def _allocate_fixed(
    db: sqlite3.Connection, network_id: str, subnet: Subnet, container_id: str, wanted: str
) -> str:
    import ipaddress

    try:
        address = ipaddress.ip_address(wanted)
    except ValueError:
        raise SpecError(f"{wanted!r} is not an address") from None
    network = ipaddress.ip_network(subnet.subnet)
    outside = address.version != network.version or address not in network
    if outside or address == network[0] or (network.version == 4 and address == network[-1]):
        raise SpecError(f"the address {wanted} is not one of {subnet.subnet}")
    if str(address) == subnet.gateway:
        raise Conflict(f"the address {wanted} is the network's gateway")
    _take(db, network_id, address.packed, container_id)
    return str(address)


def _take(db: sqlite3.Connection, network_id: str, packed: bytes, container_id: str) -> None:
    if _insert(db, network_id, packed, container_id):
        return
    row = db.execute(
        "SELECT c.name, a.container_id FROM network_addresses a LEFT JOIN network_containers c USING (container_id)"
        " WHERE a.network_id = ? AND a.address = ?",
        (network_id, packed),
    ).fetchone()
    name, holder = row or (None, "?")
    who = (
        f"reserved for {holder.removeprefix(_AUXILIARY)}"
        if holder.startswith(_AUXILIARY)
        else f"in use by the container {name or holder}"
    )
    raise Conflict(f"the address {text_of(packed)} is {who}", operation="take an address")


def reserve(db: sqlite3.Connection, network_id: str, subnet: Subnet, name: str, address: str) -> None:
    """Keeps an address of the network from its containers: something else has it.  Conflict, SpecError."""
    _allocate_fixed(db, network_id, subnet, f"{_AUXILIARY}{name}", address)


def mac_of(addresses: list[str]) -> str:
    """02:42 and the IPv4 address, as Docker did: an address that comes back brings no stale neighbour entries."""
    for address in addresses:
        if ":" not in address:
            return "02:42:" + pack(address).hex(":")
    import hashlib

    digest = hashlib.sha256(",".join(addresses).encode()).digest()
    return "02:42:" + digest[:4].hex(":")
