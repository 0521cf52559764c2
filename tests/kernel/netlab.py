"""A host, an outside world and containers, made of network namespaces.

The test's own thread moves into a namespace that plays the host, so that nothing here touches the machine's real
one.  Namespaces have no names and end with their descriptors.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from pyroute2 import NetNS

from fastdock.network import Attachment, NetworkOptions, NetworkPlan, Networks
from fastdock.store.database import Database

T = TypeVar("T")
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count()


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


class Namespace:
    """A network namespace."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def make(cls) -> Namespace:
        """A new one, with its loopback device up."""

        def unshare() -> int:
            _check(_libc.unshare(CLONE_NEWNET), "unshare")
            return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

        made = cls(_in_thread(unshare))
        made.run("ip", "link", "set", "lo", "up")
        return made

    def call(self, function: Callable[[], T]) -> T:
        """Runs a function in a thread that is in the namespace."""

        def entered() -> T:
            _check(_libc.setns(self.fd, CLONE_NEWNET), "setns")
            return function()

        return _in_thread(entered)

    def run(self, *command: str, check: bool = True) -> str:
        """Runs a program in it; its standard output."""
        done = self.call(lambda: subprocess.run(command, capture_output=True, text=True, check=False))
        if check and done.returncode != 0:
            raise AssertionError(f"{command}: {done.stderr}")
        return done.stdout

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        made = self.call(lambda: socket.socket(family, kind, protocol))
        made.settimeout(5)
        return made

    def sysctl(self, key: str) -> str:
        return self.call(lambda: Path("/proc/sys/net", key).read_text().strip())

    def close(self) -> None:
        os.close(self.fd)


def _in_thread(function: Callable[[], T]) -> T:
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


class Guest(Namespace):
    """What a container is to its network: a process in a namespace of its own."""

    def __init__(self, networks: Networks, options: NetworkOptions, name: str) -> None:
        self.networks = networks
        self.id = os.urandom(32).hex()
        self.name = name
        # It waits for the end of its input: it ends with the test, whatever happens.
        self.process = subprocess.Popen(
            ["unshare", "-n", "sh", "-c", "echo; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()
        super().__init__(os.open(f"/proc/{self.process.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        try:
            self.plan: NetworkPlan = networks.plan(self.id, options, name)
            networks.attach(self.plan, self.process.pid)
            networks.started(self.plan, self.process.pid)
        except BaseException:
            self.close()
            raise

    def address(self, version: int = 4, endpoint: int = 0) -> str:
        return next(a for a in self.plan.endpoints[endpoint].plain_addresses if (":" in a) == (version == 6))

    def end(self) -> None:
        """The process ends; nobody tells the networks."""
        if self.process.poll() is None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()

    def close(self) -> None:
        self.end()
        self.networks.detach(self.id)
        super().close()


class Lab:
    """The calling thread is in ``host``; ``outside`` is a machine on the other side of its eth0."""

    HOST4, OUTSIDE4 = "192.0.2.2", "192.0.2.1"
    HOST6, OUTSIDE6 = "2001:db8::2", "2001:db8::1"

    def __init__(self, directory: Path) -> None:
        self.host = Namespace.make()
        self.outside = Namespace.make()
        self.guests: list[Guest] = []
        self._return = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        _check(_libc.setns(self.host.fd, CLONE_NEWNET), "setns")
        with self.oracle(self.host) as oracle:
            oracle.link(
                "add", ifname="eth0", kind="veth", peer={"ifname": "eth0", "net_ns_fd": self.outside.fd}
            )
        for side, v4, v6 in (
            (self.host, self.HOST4, self.HOST6),
            (self.outside, self.OUTSIDE4, self.OUTSIDE6),
        ):
            side.run(
                "sh",
                "-ec",
                f"ip addr add {v4}/24 dev eth0; ip addr add {v6}/64 dev eth0 nodad; ip link set eth0 up",
            )
        self.host.run(
            "sh",
            "-ec",
            f"ip route add default via {self.OUTSIDE4}; ip -6 route add default via {self.OUTSIDE6}",
        )
        self.directory = directory
        self.networks = Networks(Database(str(directory / "fastdock.db")), str(directory / "run"))

    def guest(self, network: str = "bridge", name: str = "", **options: object) -> Guest:
        attachment = Attachment(
            network,
            **{  # type: ignore[arg-type]
                key: options.pop(key) for key in ("ip", "ip6", "mac", "aliases") if key in options
            },
        )
        attachments = (attachment, *(Attachment(n) for n in options.pop("more", ())))  # type: ignore[attr-defined]
        made = Guest(
            self.networks,
            NetworkOptions(attachments=attachments, **options),  # type: ignore[arg-type]
            name or f"guest{next(_numbers)}",
        )
        self.guests.append(made)
        return made

    def oracle(self, namespace: Namespace) -> NetNS:
        """pyroute2's view of a namespace."""
        return NetNS(f"/proc/{os.getpid()}/fd/{namespace.fd}", flags=0)

    def nft(self, *command: str) -> str:
        return self.host.run("nft", *command)

    def close(self) -> None:
        for guest in self.guests:
            with contextlib.suppress(OSError):
                guest.close()
        _check(_libc.setns(self._return, CLONE_NEWNET), "setns")
        for fd in (self._return, self.host.fd, self.outside.fd):
            os.close(fd)


def serve(where: Namespace, family: int, kind: int, address: str, port: int) -> socket.socket:
    """A server that says whom it was asked by; see ask().  Close it to end it."""
    server = where.socket(family, kind)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    server.settimeout(None)
    server.bind((address, port))
    if kind == socket.SOCK_STREAM:
        server.listen(16)

    def body() -> None:
        with contextlib.suppress(OSError):
            while True:
                if kind == socket.SOCK_STREAM:
                    connection, peer = server.accept()
                    with connection:
                        connection.sendall(peer[0].encode())
                else:
                    _, peer = server.recvfrom(100)
                    if peer is None:  # shut down
                        return
                    server.sendto(peer[0].encode(), peer)

    threading.Thread(target=body, daemon=True).start()
    return server


@contextlib.contextmanager
def server(where: Namespace, family: int, kind: int, port: int, address: str = "") -> Iterator[None]:
    opened = serve(where, family, kind, address or ("::" if family == socket.AF_INET6 else "0.0.0.0"), port)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            opened.shutdown(socket.SHUT_RDWR)
        opened.close()


def ask(where: Namespace, kind: int, address: str, port: int, timeout: float = 2.0) -> str | None:
    """What the server there says (the asker's address as it saw it), or None when it is not reached."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with where.socket(family, kind) as asking:
        asking.settimeout(timeout)
        try:
            asking.connect((address, port))
            if kind == socket.SOCK_DGRAM:
                asking.send(b"?")
            return asking.recv(100).decode() or None
        except OSError:
            return None


def pings(where: Namespace, address: str, timeout: float = 1.0) -> bool:
    """Whether an echo request to ``address`` is answered in so many seconds (ICMP or ICMPv6, by a raw socket)."""
    six = ":" in address
    family, protocol = (
        (socket.AF_INET6, socket.IPPROTO_ICMPV6) if six else (socket.AF_INET, socket.IPPROTO_ICMP)
    )
    with where.socket(family, socket.SOCK_RAW, protocol) as raw:
        raw.settimeout(timeout)
        request = bytes([128 if six else 8, 0, 0, 0, 0x12, 0x34, 0, 1])
        if not six:
            total = sum(int.from_bytes(request[i : i + 2]) for i in range(0, len(request), 2))
            checksum = ~(total % 0xFFFF) & 0xFFFF
            request = request[:2] + checksum.to_bytes(2) + request[4:]
        try:
            raw.sendto(request, (address, 0))
            for answer in iter(lambda: raw.recv(200), b""):
                if answer[0 if six else 20] == (129 if six else 0):
                    return True
        except OSError:
            pass
    return False
