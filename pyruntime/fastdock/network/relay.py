"""The relay of an engine root's IPv6 ports (csrc/net/relay): started when the first is published."""

from __future__ import annotations

import _socket  # socket itself takes 5 ms to import
import os
import time

from fastdock._core import net
from fastdock._errors import FastdockError
from fastdock.store.locks import is_locked
from fastdock.store.paths import is_rootless

from .model import Document
from .ports import AF_INET6, RELAYED

PROGRAM = os.path.join(os.path.dirname(os.path.dirname(__file__)), "libexec", "fastdock-relay")
_ASK_AGAIN = 30.0
"""Seconds, of the 90 that it stays after a question: a question wakes it, 0.3 ms of a start; its lock is looked at."""


def is_needed(document: Document) -> bool:
    """Whether a container has ports that are relayed: those on IPv6, at least for who asks by ::1.

    Without root the holder passes on everything (forwarding.py).
    """
    return (
        any(port.family == AF_INET6 and port.protocol in RELAYED for port in document.ports)
        and not is_rootless()
    )


def is_running(path: str) -> bool:
    """Whether it listens; it stays for 90 s from now on, and as long as anything is published."""
    return _ask(path, 0) is not None


def port_of(path: str) -> int:
    """The port that the firewall is to send connections to; 0: it does not run."""
    return int(_ask(path, 16) or 0)


def ensure(path: str, scope: net.Scope, asked: float) -> float:
    """Starts it unless it runs.  When it was ``asked`` last; to be given the next time.  Raises FastdockError."""
    now = time.monotonic()
    if now - asked < _ASK_AGAIN and is_locked(f"{path}.lock"):
        return asked
    if is_running(path):
        return now
    import subprocess

    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    done = subprocess.run(
        [PROGRAM, path, scope.table], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise FastdockError(
            f"the relay of IPv6 ports did not start: {done.stderr.strip()}", operation="publish the port"
        )
    return now


def _ask(path: str, size: int) -> bytes | None:
    asking = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    try:
        asking.settimeout(2)
        asking.connect(path)
        return asking.recv(size) if size else b""
    except OSError:
        return None
    finally:
        asking.close()
