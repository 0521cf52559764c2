"""Small parts of networks.py that hold no state, and giving back what the dead had."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Mapping

from fastdock import _core
from fastdock._errors import Conflict, FastdockError, SpecError
from fastdock._light import Pattern, sqlite3
from fastdock.store.locks import is_locked

from .ipam import Subnet
from .model import Document

TYPE_CHECKING = False  # see fastdock._light
if TYPE_CHECKING:
    from .networks import Networks

FILES = ("hosts", "hostname", "resolv.conf")
"""The container's own in /etc; the lock on the first is for all."""
_DEVICE = Pattern(r"[^\s/:%]{1,15}")
KEPT = "kept "
"""Before the run directory of a container that a monitor keeps (csrc/monitor/places.h)."""
STARTING = "starting "
"""Before the owner of a container that has no process of its own yet: the process that starts it."""


def device_of(driver: str, options: Mapping[str, str], default: str) -> str:
    if driver == "bridge":
        device = options.get("com.docker.network.bridge.name", default)
    elif driver == "macvlan":
        device = options.get("parent", "")
        if not device:
            raise SpecError("a macvlan network needs the host's device: --opt parent=eth0")
        if options.get("macvlan_mode", "") not in ("", "private", "vepa", "bridge", "passthru"):
            raise SpecError(
                f"bad macvlan_mode {options['macvlan_mode']!r}: private, vepa, bridge or passthru"
            )
    else:
        raise SpecError(f"no such network driver: {driver}; there are bridge and macvlan")
    if not _DEVICE.fullmatch(device) or device in (".", ".."):
        raise SpecError(f"{device!r} cannot be a device's name: at most 15 characters, no '/', ':' or spaces")
    return device


def no_default_network(error: OSError) -> FastdockError:
    """For who did not ask for a network and gets none: what to do without."""
    return FastdockError(
        f"cannot make the default network: {error}",
        errno=error.errno or 0,
        operation="create network",
        hint="--network none needs no bridge, --network host is the host's own network",
    )


def contains(subnet: str, address: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(subnet)
    except ValueError as error:
        raise SpecError(f"bad network addresses: {error}") from None


def refuse_overlap(subnet: Subnet, used: Iterable[str]) -> None:
    import ipaddress

    mine = ipaddress.ip_network(subnet.subnet)
    for text in used:
        other = ipaddress.ip_network(text)
        if other.version == mine.version and other.overlaps(mine):
            raise Conflict(f"the subnet {mine} overlaps the network {other}", operation="create network")


def insert_container(
    db: sqlite3.Connection, container_id: str, name: str, text: str, document: Document, owner: str
) -> None:
    try:
        db.execute(
            "INSERT INTO network_containers VALUES (?, ?, ?, ?, ?)",
            (
                container_id,
                name or container_id[:12],
                text,
                owner,
                document.uses_resolver,
            ),
        )
    except sqlite3.IntegrityError:
        raise Conflict(f"the container {container_id[:12]} is on its networks already") from None
    db.executemany(
        "INSERT INTO network_endpoints VALUES (?, ?)",
        [(endpoint.network_id, container_id) for endpoint in document.endpoints],
    )


def files_prefix(run_directory: str, container_id: str) -> str:
    """What the paths of the container's hosts, hostname and resolv.conf begin with.

    Not a directory of its own: where /run is no tmpfs (ext4), removing one waits longer than all else of an end.
    """
    return f"{run_directory}/networks/{container_id}."


def files_owners(run_directory: str) -> set[str]:
    """The containers that have such files, whoever made them and whether they live or not."""
    try:
        names = os.listdir(f"{run_directory}/networks")
    except FileNotFoundError:
        return set()
    return {name.partition(".")[0] for name in names}


def claim_files(prefix: str) -> int:
    """Makes the first of a container's files, empty; nobody sweeps them while its descriptor, locked, is open."""
    path = prefix + FILES[0]
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        try:
            fd = os.open(path, flags, 0o644)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            continue
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            empty(fd)
            return fd
        os.close(fd)  # swept just now


def empty(fd: int) -> None:
    """A file of names before it is written: nothing is in it, and everybody may read it, whatever the umask."""
    if os.fstat(fd).st_size:  # ext4 writes what was truncated, however small, to the disk at its close
        os.ftruncate(fd, 0)
    os.fchmod(fd, 0o644)


def sweep_files(prefix: str, is_used: Callable[[], bool]) -> None:
    """Removes files that nobody has claimed and that are not used."""
    try:
        fd = os.open(prefix + FILES[0], os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:  # only the rest: who removed them was killed
        remove_files(prefix)
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not is_used():
            remove_files(prefix)
    except BlockingIOError:
        pass
    finally:
        os.close(fd)


def remove_files(prefix: str) -> None:
    """Removes a container's files, the one that is claimed last."""
    for name in reversed(FILES):
        try:
            os.unlink(prefix + name)
        except FileNotFoundError:
            pass  # another process does the same


def forget(db: sqlite3.Connection, container_id: str) -> None:
    """Gives back what the container has in the database: its addresses and ports go with it (store/database.py)."""
    db.execute("DELETE FROM network_containers WHERE container_id = ?", (container_id,))


def collect(networks: Networks, but: str = "") -> int:
    """See Networks.collect()."""
    if networks._ports_are_lost():
        with networks._transaction():
            pass  # its end tells a holder that was started anew
    owners = files_owners(networks._run_directory)
    rows = networks._database.execute("SELECT container_id, owner FROM network_containers").fetchall()
    dead = [container_id for container_id, owner in rows if container_id != but and not is_alive(owner)]
    for container_id in dead:
        networks.detach(container_id)
    alive = {container_id for container_id, _ in rows} - {*dead}
    for container_id in owners - alive - {but}:
        _sweep_files(networks, container_id)
    return len(dead)


def _sweep_files(networks: Networks, container_id: str) -> None:
    """Of a throw-away container, whose id does not come back: a kept one may be starting at this moment."""
    if not os.path.exists(f"{networks._root}/containers/{container_id}"):
        sweep_files(
            files_prefix(networks._run_directory, container_id),
            lambda: networks._recorded(container_id) is not None,
        )


def identity(pid: int) -> str:
    """A process, and not a later one of the same number: "pid start-time" (proc(5), stat, field 22); dead: "pid 0".

    Also dead is a zombie that nobody waits for (a container's init has been adopted by one that is slow, or never
    does), unless it is only the first of several threads.
    """
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fields = os.read(fd, 4096).rpartition(b")")[2].split()
        finally:
            os.close(fd)
    except OSError:
        return f"{pid} 0"
    if fields[0] in b"ZX" and int(fields[17]) <= 1:
        return f"{pid} 0"
    return f"{pid} {fields[19].decode()}"


def kept_owner(run_directory: str, starter: int | None) -> str:
    """Of a container with a monitor: it is there while one has the directory's lock, or its starter is at work."""
    return f"{KEPT}{run_directory}\t{identity(starter) if starter else ''}"


def is_alive(owner: str) -> bool:
    if owner.startswith(KEPT):
        directory, _, starter = owner.removeprefix(KEPT).partition("\t")
        return is_locked(directory) or (bool(starter) and is_alive(starter))
    owner = owner.removeprefix(STARTING)
    return owner == identity(int(owner.partition(" ")[0])) and not owner.endswith(" 0")


def process_of(owner: str) -> int | None:
    """The init process of a container that runs, by its owner."""
    if owner.startswith(STARTING) or not is_alive(owner):
        return None
    if not owner.startswith(KEPT):
        return int(owner.partition(" ")[0])
    directory = owner.removeprefix(KEPT).partition("\t")[0]
    try:
        with open(f"{directory}/state.json", encoding="utf-8") as file:
            document = _core.parse_json(file.read())
    except FileNotFoundError:  # it is being started
        return None
    return int(document["pid"]) or None
