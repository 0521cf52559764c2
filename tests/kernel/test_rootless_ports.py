"""fastdock as an ordinary user: published ports, names, and networks without a way out."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
import urllib.request

import pytest
from ordinary_user import OrdinaryUser

pytestmark = [pytest.mark.kernel, pytest.mark.here]


def _get(url: str) -> str:
    deadline = time.monotonic() + 10
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("0.0.0.0", 0))
        return int(probe.getsockname()[1])


def _serve(user: OrdinaryUser, port: int | str, name: str = "web") -> None:
    user.ok("run", "-d", "--name", name, "-p", f"{port}:80", "host", "sh", "-c",
            f"cd /tmp && echo {name} >index.html && exec python3 -m http.server 80")  # fmt: skip


def test_a_published_port_is_reached_from_the_host(user: OrdinaryUser) -> None:
    port = _free_port()
    _serve(user, port)
    assert _get(f"http://127.0.0.1:{port}/") == "web\n"
    user.ok("restart", "-t", "0", "web")
    assert _get(f"http://127.0.0.1:{port}/") == "web\n"
    user.ok("rm", "-f", "web")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)


def test_a_published_port_is_reached_by_ipv6(user: OrdinaryUser) -> None:
    """The container has no IPv6 address; the holder listens on both."""
    port = _free_port()
    _serve(user, port)
    assert _get(f"http://[::1]:{port}/") == "web\n"
    assert f"[::]:{port}" in user.ok("port", "web")
    user.ok("rm", "-f", "web")


def test_a_port_published_on_the_ipv6_localhost(user: OrdinaryUser) -> None:
    port = _free_port()
    _serve(user, f"[::1]:{port}")
    assert _get(f"http://[::1]:{port}/") == "web\n"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)
    user.ok("rm", "-f", "web")


def test_a_replaced_holder_forwards_the_ports_again(user: OrdinaryUser) -> None:
    port = _free_port()
    _serve(user, port)
    assert _get(f"http://127.0.0.1:{port}/") == "web\n"
    os.kill(user.holder(), signal.SIGKILL)
    assert "web" in user.ok("ps")
    assert _get(f"http://127.0.0.1:{port}/") == "web\n"
    user.ok("rm", "-f", "web")


def test_udp_answers_come_from_the_address_that_was_asked(user: OrdinaryUser) -> None:
    port = _free_port(socket.SOCK_DGRAM)
    echo = ("import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 53)); print('up', flush=True)\n"
            "while True: data, who = s.recvfrom(65536); s.sendto(data.upper(), who)")  # fmt: skip
    user.ok("run", "-d", "--name", "echo", "-p", f"{port}:53/udp", "host", "python3", "-c", echo)
    deadline = time.monotonic() + 10
    while "up" not in user.ok("logs", "echo") and time.monotonic() < deadline:
        time.sleep(0.02)
    for address in ("127.0.0.1", "127.0.0.2"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(10)
            asking.connect((address, port))  # takes answers from there only
            asking.send(b"x" * 9000)
            assert asking.recv(65536) == b"X" * 9000
    user.ok("rm", "-f", "echo")


def test_a_port_below_1024_and_a_taken_one_say_why(user: OrdinaryUser) -> None:
    done = user.fastdock("run", "--rm", "-p", "80:80", "busybox", "true")
    assert done.returncode == 125
    assert "Permission denied" in done.stderr
    assert "ip_unprivileged_port_start" in done.stderr
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        # The first is free: it must be given back when the second is not.
        other = _free_port()
        done = user.fastdock("run", "--rm", "-p", f"{other}:80", "-p", f"{port}:81", "busybox", "true")
        assert done.returncode == 125
        assert f"cannot publish port {port}/tcp" in done.stderr
    assert user.leftovers() == []


@pytest.mark.parametrize("port", ["7777:80/sctp", "80/sctp"])
def test_sctp_is_refused_clearly(user: OrdinaryUser, port: str) -> None:
    done = user.fastdock("run", "--rm", "-p", port, "busybox", "true")
    assert done.returncode == 125
    assert (
        "/sctp: without root a process passes ports on (fastdock-rootless), TCP and UDP alone" in done.stderr
    )


@pytest.mark.parametrize("way", ["pasta", "slirp4netns"])
def test_who_asks_a_published_port_is_the_bridge(user: OrdinaryUser, way: str) -> None:
    """docs/rootless.md: whatever leads out, the holder passes ports on; the source address is not kept."""
    code = ("import socket; s = socket.create_server(('', 80))\n"
            "while True: c, who = s.accept(); c.sendall(who[0].encode()); c.close()")  # fmt: skip
    port = _free_port()
    user.stop()
    try:
        words = ("run", "-d", "--name", "shows", "-p", f"{port}:80", "host", "python3", "-c", code)
        user.ok(*words, env={"FASTDOCK_ROOTLESS_NETWORK": way})
        assert any(way in words for words in user.processes().values())
        deadline, seen = time.monotonic() + 10, b""
        while not seen and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as asking:
                seen = asking.recv(100)
        gateway = "{{(index .IPAM.Config 0).Gateway}}"
        assert seen.decode() == user.ok("network", "inspect", "-f", gateway, "bridge").strip()
        user.ok("rm", "-f", "shows")
    finally:
        user.stop()


def test_containers_find_each_other_by_name(user: OrdinaryUser) -> None:
    user.ok("network", "create", "app")
    user.ok("run", "-d", "--name", "server", "--network", "app", "host", "sleep", "60")
    assert "server" in user.ok("run", "--rm", "--network", "app", "host", "getent", "hosts", "server")
    user.ok("rm", "-f", "server")
    user.ok("network", "rm", "app")


def test_without_a_way_out_networks_say_what_to_install(user: OrdinaryUser) -> None:
    user.stop()
    try:
        none = {"FASTDOCK_ROOTLESS_NETWORK": "none"}
        assert user.ok("run", "--rm", "--network", "none", "busybox", "echo", "alone", env=none) == "alone\n"
        done = user.fastdock("run", "--rm", "busybox", "true")
        assert done.returncode == 125
        assert "slirp4netns" in done.stderr
        here = os.readlink("/proc/self/ns/net")
        assert (
            user.ok("run", "--rm", "--network", "host", "busybox", "readlink", "/proc/self/ns/net").strip()
            == here
        )
    finally:
        user.stop()
