"""Published ports without root: the holder (csrc/rootless) listens on the host in the containers' stead.

For root a published port is an element of the firewall's set.  Without, the firewall is that of a network
namespace which nobody outside reaches; so the holder binds the ports of the host, and passes on what comes.
"""

from __future__ import annotations

import binascii
import os

from fastdock import _core
from fastdock._errors import Conflict, FastdockError
from fastdock._light import sqlite3
from fastdock.store.paths import ROOTLESS, ROOTLESS_REASON

from .model import document_from
from .ports import AF_INET6, PublishedPort


def need_way_out() -> None:
    """Raises FastdockError where networks cannot be had, with the reason in one line."""
    reason = os.environ.get(ROOTLESS_REASON)
    if reason is not None:
        raise FastdockError(
            f"without root a network needs pasta or slirp4netns: {reason}",
            operation="create network",
            hint="--network none and --network host need neither",
        )


def take(db: sqlite3.Connection, protocol: str, family: int, host: str, port: int) -> None:
    """Binds a port of the host; ``follow`` makes it a forward, or gives it back.

    Raises OSError as bind(2) does there: EADDRINUSE, EADDRNOTAVAIL, EACCES.
    """
    answer = _ask(f"take {_scope(db)} {protocol} {_place(family, host)} {port}")
    if answer != "ok":
        number = int(answer.split()[1])
        raise OSError(number, os.strerror(number))


def follow(db: sqlite3.Connection) -> None:
    """Has the holder forward the ports that are recorded, and no others.  Conflict: one is taken."""
    rows = db.execute("SELECT document FROM network_containers").fetchall()
    lines = dict.fromkeys(_line(port) for (text,) in rows for port in document_from(text).ports)
    answer = _ask("\n".join([f"set {_scope(db)}", *lines]))
    if answer == "ok":
        return
    _, number, place = answer.split(" ", 2)
    raise Conflict(
        f"cannot publish port {place}: {os.strerror(int(number))}",
        errno=int(number),
        operation="publish the port",
        hint="something else has taken it while nobody held it: stop that, or choose another host port",
    )


def is_known(db: sqlite3.Connection) -> bool:
    """Whether the holder that runs was told of this root's ports: not one that was started anew."""
    return _ask(f"known {_scope(db)}") == "ok"


def holder_view() -> str:
    """Where the host's sockets are listed: the holder has stayed in the host's network."""
    return f"/proc/{_ask('enter').split()[1]}/net"


def _line(port: PublishedPort) -> str:
    place = _place(port.family, port.host)
    return f"{port.protocol} {place} {port.host_port} {port.container} {port.container_port}"


def _place(family: int, host: str) -> str:
    return host or ("*6" if family == AF_INET6 else "*")


def _scope(db: sqlite3.Connection) -> str:
    """Tells the engine roots of one user apart."""
    path: str = db.execute("PRAGMA database_list").fetchone()[2]
    return f"{binascii.crc32(os.path.realpath(path).encode()):08x}"


def _ask(request: str) -> str:
    return _core.rootless_ask(os.environ[ROOTLESS].partition(":")[2], request)
