"""Rootless networks with Debian's pasta and slirp4netns, an outside machine, and podman calling fastdock-oci."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from ordinary_user import OrdinaryUser

from support import missing

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

OUTSIDE = "198.51.100.2"  # RFC 5737
SERVER = """
import socket, threading, hashlib
def echo():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("", 9000))
    while True:
        data, who = s.recvfrom(65536); s.sendto(data[::-1], who)
threading.Thread(target=echo, daemon=True).start()
listening = socket.create_server(("", 9000), backlog=256)
print("up", flush=True)
def serve(c):
    # As much as was announced, or until the other side has ended; then its digest, and as much back.
    wanted, digest, size = int(c.recv(20, socket.MSG_WAITALL)), hashlib.sha256(), 0
    while (size < wanted or not wanted) and (data := c.recv(1 << 16)):
        digest.update(data); size += len(data)
    c.sendall(digest.hexdigest().encode() + b"x" * size)
    c.close()
while True:
    threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()
"""


@pytest.fixture(params=["pasta", "slirp4netns"])
def way(request: pytest.FixtureRequest, user: OrdinaryUser) -> Iterator[str]:
    """The user's holder was started with this one."""
    if shutil.which(request.param) is None:
        missing(f"no {request.param} (apt-get install passt slirp4netns)")
    user.stop()
    user.environment["FASTDOCK_ROOTLESS_NETWORK"] = request.param
    yield request.param
    del user.environment["FASTDOCK_ROOTLESS_NETWORK"]
    for name in user.fastdock("ps", "-aq").stdout.split():
        user.fastdock("rm", "-f", name)
    user.stop()


@pytest.fixture
def outside() -> Iterator[str]:
    """A machine that the host routes to: a network namespace with SERVER in it."""
    name = f"fdout{os.getpid()}"
    link = f"fdo{os.getpid() % 100000}"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    ip("netns", "add", name)
    with contextlib.ExitStack() as stack:
        stack.callback(ip, "netns", "del", name)
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("addr", "add", "198.51.100.1/24", "dev", link)
        ip("link", "set", link, "up")
        for words in (
            ("addr", "add", f"{OUTSIDE}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
        ):
            ip("-n", name, *words)
        with subprocess.Popen(
            ["ip", "netns", "exec", name, sys.executable, "-c", SERVER], stdout=subprocess.PIPE
        ) as server:
            assert server.stdout is not None
            server.stdout.readline()
            yield OUTSIDE
            server.kill()


# Without ending its side first: Debian 12's pasta (2023-03-09) then repeats what the other side has sent.
CLIENT = """
import socket, sys, hashlib
place, size = (sys.argv[1], 9000), int(sys.argv[2])
data = bytes(range(256)) * (size // 256)
c = socket.create_connection(place, 20)
import threading
threading.Thread(target=lambda: c.sendall(b"%020d" % len(data) + data)).start()
got = b""
while part := c.recv(1 << 16): got += part
assert got == hashlib.sha256(data).hexdigest().encode() + b"x" * len(data), len(got)
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.settimeout(20); u.connect(place)
u.send(b"abc" * 400)
assert u.recv(65536) == (b"abc" * 400)[::-1]
print("good")
"""


def test_containers_reach_the_outside(user: OrdinaryUser, way: str, outside: str) -> None:
    assert user.ok("run", "--rm", "host", "python3", "-c", CLIENT, outside, "1000000") == "good\n"
    assert way in " ".join(user.processes().values())


def _serve(user: OrdinaryUser, *flags: str) -> None:
    user.ok("run", "-d", "--name", "server", *flags, "host", "python3", "-c", SERVER)
    deadline = time.monotonic() + 20
    while "up" not in user.ok("logs", "server"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _exchange(place: tuple[str, int], data: bytes) -> None:
    with socket.create_connection(place, 60) as client:
        sending = threading.Thread(
            target=lambda: (client.sendall(b"0" * 20 + data), client.shutdown(socket.SHUT_WR))
        )
        sending.start()
        got = bytearray()
        while part := client.recv(1 << 16):
            got += part
        sending.join()
    assert got[:64] == hashlib.sha256(data).hexdigest().encode()
    assert len(got) == 64 + len(data)


def test_ports_are_reached_over_tcp_and_udp_from_host_and_outside(
    user: OrdinaryUser, way: str, outside: str
) -> None:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    _serve(user, "-p", f"{port}:9000", "-p", f"{port}:9000/udp")
    for address in ("127.0.0.1", "198.51.100.1"):
        _exchange((address, port), os.urandom(3_000_000))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(20)
            asking.connect((address, port))
            asking.send(b"question")
            assert asking.recv(100) == b"noitseuq"
    client = CLIENT.replace("9000)", f"{port})")
    done = subprocess.run(["ip", "netns", "exec", f"fdout{os.getpid()}", sys.executable, "-c", client, "198.51.100.1", "100000"],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.stdout == "good\n", done.stderr
    user.ok("rm", "-f", "server")


def test_a_hundred_connections_at_once_and_readers_that_wait(user: OrdinaryUser, way: str) -> None:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    _serve(user, "-p", f"{port}:9000")
    lazy = socket.create_connection(("127.0.0.1", port), 20)  # sends much, and reads it late
    lazy.sendall(b"0" * 20 + b"y" * 1_000_000)
    lazy.shutdown(socket.SHUT_WR)
    errors: list[BaseException] = []

    def one() -> None:
        try:
            _exchange(("127.0.0.1", port), os.urandom(50_000))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    total = 0
    while part := lazy.recv(1 << 16):
        total += len(part)
    lazy.close()
    assert total == 1_000_064
    user.ok("rm", "-f", "server")


def test_the_way_out_comes_back_when_it_is_killed(user: OrdinaryUser, way: str, outside: str) -> None:
    user.ok("run", "--rm", "host", "true")
    (pid,) = (pid for pid, words in user.processes().items() if words.startswith(f"/usr/bin/{way}"))
    os.kill(pid, 9)
    deadline = time.monotonic() + 20
    while user.fastdock("run", "--rm", "host", "python3", "-c", CLIENT, outside, "1000").stdout != "good\n":
        assert time.monotonic() < deadline


ANSWER = """
import dns.message, dns.rrset, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.77", 53)); print("up", flush=True)
while True:
    data, who = s.recvfrom(4096)
    query = dns.message.from_wire(data)
    reply = dns.message.make_response(query)
    if query.question[0].rdtype == 1:
        reply.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", "192.0.2.77"))
    s.sendto(reply.to_wire(), who)
"""


def test_a_resolver_on_the_hosts_loopback_is_asked(user: OrdinaryUser) -> None:
    """As systemd-resolved's: the namespace's own loopback device is another."""
    user.stop()
    user.environment["FASTDOCK_ROOTLESS_NETWORK"] = "slirp4netns"  # Debian 12's pasta cannot
    etc = user.place / "etc"
    subprocess.run(["cp", "-a", "/etc", str(etc)], check=True)
    (etc / "resolv.conf").write_text("nameserver 127.0.0.77\nsearch example.org\n")
    variables = [f"{key}={value}" for key, value in user.environment.items()]
    drop = [
        "setpriv",
        "--reuid",
        str(user.uid),
        "--regid",
        str(user.gid),
        "--clear-groups",
        "env",
        "-i",
        *variables,
    ]
    looks = [*drop, *user.command, "run", "--rm", "host", "getent", "hosts", "some.where"]
    try:
        with subprocess.Popen([sys.executable, "-c", ANSWER], stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == b"up\n"
            done = subprocess.run(
                ["unshare", "-m", "sh", "-c", f'mount --bind {etc} /etc && exec "$@"', "-", *looks],
                cwd=user.home, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60,
            )  # fmt: skip
            server.kill()
        assert done.stdout.split() == ["192.0.2.77", "some.where"], done.stderr
    finally:
        shutil.rmtree(etc)
        del user.environment["FASTDOCK_ROOTLESS_NETWORK"]
        user.stop()


def test_registries_on_the_hosts_loopback_are_reached(user: OrdinaryUser) -> None:
    """A pull needs no network of the containers'."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silent.settimeout(30)
        pulling = user.start(*user.command, "pull", f"127.0.0.1:{silent.getsockname()[1]}/any",
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        silent.accept()[0].close()
        pulling.kill()
        pulling.wait()


def test_rootless_podman_runs_fastdock_oci(user: OrdinaryUser) -> None:
    if shutil.which("podman") is None:
        missing("no podman (apt-get install podman)")
    user.run("mkdir", "-p", "root")
    user.run("tar", "-C", "root", "--no-same-owner", "-xf", str(user.place / "busybox.tar"))
    podman = ["podman", "--cgroup-manager=cgroupfs", "--runtime", str(user.place / "fastdock-oci")]
    try:
        done = user.run(
            *podman, "run", "--rm", "--network", "none", "--rootfs", str(user.home / "root"), "id", "-u"
        )
        assert (done.returncode, done.stdout.strip()) == (0, "0"), done.stderr
        started = user.run(
            *podman,
            "run",
            "-d",
            "--name",
            "box",
            "--network",
            "none",
            "--rootfs",
            str(user.home / "root"),
            "sleep",
            "60",
        )
        assert started.returncode == 0, started.stderr
        assert user.run(*podman, "exec", "box", "echo", "inside").stdout.strip() == "inside"
    finally:
        user.run(*podman, "rm", "-f", "-t", "0", "box")
        # Its pause process outlives its commands.
        user.run("podman", "system", "migrate")
