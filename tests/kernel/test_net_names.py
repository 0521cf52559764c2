"""Names: what the resolver at 127.0.0.11 answers, whom it asks, and what an egress policy makes of it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from socket import AF_INET, SOCK_DGRAM, SOCK_STREAM

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.reversename
import dns.rrset
import pytest
from netlab import Guest, Lab, Namespace, ask, server

from fastdock._core import net

pytestmark = pytest.mark.kernel
RESOLVER = "127.0.0.11"


def lookup(
    guest: Namespace,
    name: str,
    kind: str = "A",
    tcp: bool = False,
    wire: bytes | None = None,
    timeout: float = 5,
) -> dns.message.Message:
    query = dns.message.make_query(name, kind)
    data = wire if wire is not None else query.to_wire()
    with guest.socket(AF_INET, SOCK_STREAM if tcp else SOCK_DGRAM) as asking:
        asking.settimeout(timeout)
        asking.connect((RESOLVER, 53))
        if not tcp:
            asking.send(data)
            return dns.message.from_wire(asking.recv(65535))
        asking.sendall(len(data).to_bytes(2) + data)
        size = int.from_bytes(_exactly(asking, 2))
        return dns.message.from_wire(_exactly(asking, size))


def _exactly(stream: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = stream.recv(size - len(data))
        assert part, "the connection ended"
        data += part
    return data


def addresses(answer: dns.message.Message) -> list[str]:
    return [record.to_text() for rrset in answer.answer for record in rrset]


@contextlib.contextmanager
def upstream(
    where: Namespace, answers: dict[str, list[str]], address: str = Lab.OUTSIDE4
) -> Iterator[list[str]]:
    """A name server; the names that it was asked for.  "big." has 100 addresses and needs TCP."""
    asked: list[str] = []

    def respond(data: bytes, limit: int) -> bytes:
        query = dns.message.from_wire(data)
        (question,) = query.question
        asked.append(question.name.to_text().lower())
        response = dns.message.make_response(query)
        found = answers.get(asked[-1], [])
        if found and question.rdtype == dns.rdatatype.A:
            response.answer.append(dns.rrset.from_text(question.name, 100, "IN", "A", *found))
        elif not found:
            response.set_rcode(dns.rcode.NXDOMAIN)
        wire = response.to_wire()
        if len(wire) > limit:
            response.answer.clear()
            response.flags |= dns.flags.TC
            wire = response.to_wire()
        return wire

    udp, tcp = where.socket(AF_INET, SOCK_DGRAM), where.socket(AF_INET, SOCK_STREAM)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for made in (udp, tcp):
        made.settimeout(None)
        made.bind((address, 53))
    tcp.listen()

    def serve_udp() -> None:
        while True:
            data, peer = udp.recvfrom(4096)
            if peer is None or not data:
                return
            udp.sendto(respond(data, 512), peer)

    def serve_tcp() -> None:
        while True:
            try:
                connection, _ = tcp.accept()
            except OSError:
                return
            with connection:
                size = int.from_bytes(_exactly(connection, 2))
                wire = respond(_exactly(connection, size), 65535)
                connection.sendall(len(wire).to_bytes(2) + wire)

    threads = [threading.Thread(target=target, daemon=True) for target in (serve_udp, serve_tcp)]
    for thread in threads:
        thread.start()
    try:
        yield asked
    finally:
        for made in (udp, tcp):
            with contextlib.suppress(OSError):
                made.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        udp.close()
        tcp.close()


@pytest.fixture
def named(lab: Lab) -> Lab:
    lab.networks.create("app", ipv6=True)
    return lab


def test_name_alias_and_short_id(named: Lab) -> None:
    web = named.guest("app", name="web", aliases=("www", "Shop"))
    client = named.guest("app", name="client")
    for name in ("web", "www", "shop", "WEB", web.id[:12], "web.app"):
        for tcp in (False, True):
            assert addresses(lookup(client, name, tcp=tcp)) == [web.address()]
    assert addresses(lookup(client, "web", "AAAA")) == [web.address(6)]
    assert addresses(lookup(web, "web")) == [web.address()], "also its own"
    mx = lookup(client, "web", "MX")
    assert (mx.rcode(), mx.answer) == (dns.rcode.NOERROR, [])


def test_pointers(named: Lab) -> None:
    web, client = named.guest("app", name="web"), named.guest("app")
    assert addresses(lookup(client, dns.reversename.from_address(web.address()), "PTR")) == ["web.app."]
    assert addresses(lookup(client, dns.reversename.from_address(web.address(6)), "PTR")) == ["web.app."]


def test_a_shared_alias_is_shared_in_turns(named: Lab) -> None:
    workers = [named.guest("app", aliases=("worker",)) for _ in range(3)]
    client = named.guest("app")
    answers = [addresses(lookup(client, "worker")) for _ in range(3)]
    assert all(sorted(a) == sorted(w.address() for w in workers) for a in answers)
    assert len({a[0] for a in answers}) == 3


def test_names_are_of_a_network(named: Lab) -> None:
    named.networks.create("other")
    named.guest("app", name="web")
    stranger, middle = named.guest("other"), named.guest("other", more=["app"])
    with upstream(named.outside, {}):
        assert addresses(lookup(middle, "web"))
        assert not addresses(lookup(named.guest("other", dns=[named.OUTSIDE4]), "web"))
    assert stranger.id[:12] != middle.id[:12]


def test_a_container_that_ended_has_no_name(named: Lab) -> None:
    """Its process ends, and the resolver notices by itself."""
    web, client = named.guest("app", name="web"), named.guest("app", dns=[named.OUTSIDE4])
    with upstream(named.outside, {}):
        assert addresses(lookup(client, "web")) == [web.address()]
        web.end()
        while web.id in net.list_registered(named.networks.resolver_socket):
            time.sleep(0.01)
        assert lookup(client, "web").rcode() == dns.rcode.NXDOMAIN


def test_questions_go_on_to_the_upstream_server(named: Lab) -> None:
    client = named.guest("app", dns=["192.0.2.99", named.OUTSIDE4])  # the first does not answer
    with upstream(
        named.outside, {"example.org.": ["203.0.113.7"], "big.": [f"10.1.1.{i}" for i in range(100)]}
    ):
        assert addresses(lookup(client, "example.org", timeout=10)) == ["203.0.113.7"]
        client = named.guest("app", dns=[named.OUTSIDE4])
        assert lookup(client, "nowhere.example").rcode() == dns.rcode.NXDOMAIN
        short = lookup(client, "big")
        assert short.flags & dns.flags.TC, "too long for UDP: ask again by TCP"
        assert len(addresses(lookup(client, "big", tcp=True))) == 100


def test_no_upstream_server_answers(named: Lab) -> None:
    client = named.guest("app", dns=[named.OUTSIDE4])  # nobody listens there: refused at once
    assert lookup(client, "example.org").rcode() == dns.rcode.SERVFAIL


def test_an_internal_network_asks_nobody(lab: Lab) -> None:
    """CVE-2024-29018: names are a way out, too."""
    lab.networks.create("inner", internal=True)
    web, client = lab.guest("inner", name="web"), lab.guest("inner", dns=[lab.OUTSIDE4])
    with upstream(lab.outside, {"secret.example.org.": ["203.0.113.7"]}) as asked:
        assert addresses(lookup(client, "web")) == [web.address()]
        assert lookup(client, "secret.example.org").rcode() == dns.rcode.NXDOMAIN
        assert asked == []


def test_garbage_is_survived(named: Lab) -> None:
    client = named.guest("app", name="web")
    query = dns.message.make_query("web", "A").to_wire()
    with client.socket(AF_INET, SOCK_DGRAM) as asking:
        asking.connect((RESOLVER, 53))
        for size in range(len(query)):
            asking.send(query[:size])
        for number in range(150):
            asking.send(os.urandom(number))
        asking.send(query[:12] + b"\xc0\x0c" + query[-4:])  # a name that points at itself
    with client.socket(AF_INET, SOCK_STREAM) as asking:
        asking.connect((RESOLVER, 53))
        asking.sendall(os.urandom(5000))
    assert addresses(lookup(client, "web")) == [client.address()]


def test_the_resolver_is_small_and_has_no_privileges(named: Lab) -> None:
    named.guest("app")
    status = Path(f"/proc/{_resolver(named)}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split()[0] == "65534"
    assert int(fields["CapEff"], 16) == 1 << 12, "CAP_NET_ADMIN, to open the firewall for allowed names"
    assert fields["NoNewPrivs"] == "1"
    assert int(fields["VmRSS"].split()[0]) < 6000


def _resolver(lab: Lab) -> int:
    """The process that listens on the control socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.connect(lab.networks.resolver_socket)
        lab.resolver = peer = int.from_bytes(  # type: ignore[attr-defined]
            probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little"
        )
    return peer


def _kill(pid: int) -> None:
    """Returns when it is gone."""
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    select.select([pidfd], [], [])
    os.close(pidfd)


def _copy_of(pid: int) -> int:
    """The process that takes over when the resolver dies."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    while not (found := children.read_text().split()):
        os.sched_yield()
    return int(found[-1])


def test_a_killed_resolver_goes_on_as_another_process(named: Lab) -> None:
    """Nobody starts anything, nobody registers again."""
    web, client = named.guest("app", name="web"), named.guest("app")
    # It answers a container first and makes its copy then: with the next answer the copy is there.
    assert addresses(lookup(client, "web")) == [web.address()]
    for _ in range(3):
        old = _resolver(named)
        _kill(old)
        assert addresses(lookup(client, "web")) == [web.address()]
        assert _resolver(named) != old
    late = named.guest("app", name="late")
    assert addresses(lookup(client, "late")) == [late.address()]
    web.end()
    named.networks.collect()
    assert addresses(lookup(client, "web")) == []


def test_a_killed_copy_is_made_again(named: Lab) -> None:
    web, client = named.guest("app", name="web"), named.guest("app")
    assert addresses(lookup(client, "web")) == [web.address()]  # the copy that knows both is there: see above
    server = _resolver(named)
    copy = _copy_of(server)
    _kill(copy)
    while (again := _copy_of(server)) == copy:
        os.sched_yield()
    assert again != copy
    _kill(server)
    assert addresses(lookup(client, "web")) == [web.address()]


def test_server_and_copy_killed_at_once_come_back_with_the_next_start(named: Lab) -> None:
    web, client = named.guest("app", name="web"), named.guest("app")
    server = _resolver(named)
    copy = _copy_of(server)
    os.kill(server, signal.SIGSTOP)  # so that it makes no other
    _kill(copy)
    _kill(server)
    late = named.guest("app", name="late")
    for asking in (client, late):
        assert addresses(lookup(asking, "web")) == [web.address()]
        assert addresses(lookup(asking, "late")) == [late.address()]


def test_without_containers_it_ends_with_its_copy(named: Lab, tmp_path: Path) -> None:
    from fastdock.network.resolver import PROGRAM

    path = str(tmp_path / "idle.sock")
    subprocess.run([PROGRAM, path, "fastdock-idle", "0"], check=True)
    lock = os.open(f"{path}.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)  # the two hold it as long as one of them lives
    os.close(lock)


# --- egress ---


def test_egress_deny(lab: Lab) -> None:
    """It reaches its own network, and nothing else: not outside, not the host, no names."""
    guest, friend = lab.guest(egress="deny", dns=[lab.OUTSIDE4]), lab.guest(publish=["8080:80"])
    lab.networks.create("other")
    other = lab.guest("other", publish=["8081:80"])
    with (
        server(lab.outside, AF_INET, SOCK_STREAM, 80),
        server(lab.host, AF_INET, SOCK_STREAM, 80),
        server(friend, AF_INET, SOCK_STREAM, 80),
        server(other, AF_INET, SOCK_STREAM, 80),
        server(guest, AF_INET, SOCK_STREAM, 80),
        upstream(lab.outside, {"a.example.": ["203.0.113.1"]}) as asked,
    ):
        assert ask(guest, SOCK_STREAM, lab.OUTSIDE4, 80) is None
        assert ask(guest, SOCK_STREAM, lab.HOST4, 80) is None
        assert ask(guest, SOCK_STREAM, "172.17.0.1", 80) is None
        assert ask(guest, SOCK_STREAM, lab.HOST4, 8081) is None
        assert ask(guest, SOCK_STREAM, friend.address(), 80) is not None
        assert ask(friend, SOCK_STREAM, guest.address(), 80) is not None, "it still answers"
        assert ask(lab.host, SOCK_STREAM, guest.address(), 80) is not None
        assert lookup(guest, "a.example").rcode() == dns.rcode.NXDOMAIN
        assert asked == []


def test_egress_is_refused_not_dropped(lab: Lab) -> None:
    """A program gets an error at once, and does not wait for a time-out."""
    guest = lab.guest(egress="deny")
    with guest.socket(AF_INET, SOCK_STREAM) as asking:
        asking.settimeout(30)
        with pytest.raises(OSError, match=r"No route|refused|unreachable"):
            asking.connect((lab.OUTSIDE4, 80))


def test_egress_to_prefixes(lab: Lab) -> None:
    lab.outside.run("ip", "addr", "add", "198.51.100.5/32", "dev", "lo")
    guest = lab.guest(egress="198.51.100.0/28, 203.0.113.9")
    with server(lab.outside, AF_INET, SOCK_STREAM, 80):
        assert ask(guest, SOCK_STREAM, "198.51.100.5", 80) is not None
        assert ask(guest, SOCK_STREAM, lab.OUTSIDE4, 80) is None
        assert ask(lab.guest(), SOCK_STREAM, lab.OUTSIDE4, 80) is not None, "others are free"


def test_egress_to_domains(lab: Lab) -> None:
    """Open for the addresses of an allowed name, from when it was looked up."""
    for address in ("198.51.100.5", "198.51.100.6"):
        lab.outside.run("ip", "addr", "add", f"{address}/32", "dev", "lo")
    guest = lab.guest(egress="example.org", dns=[lab.OUTSIDE4])
    names = {
        "api.example.org.": ["198.51.100.5"],
        "evil.example.": ["198.51.100.6"],
        "rebind.example.org.": ["127.0.0.1", "169.254.169.254"],
        "notexample.org.": ["198.51.100.6"],
    }
    with server(lab.outside, AF_INET, SOCK_STREAM, 80), upstream(lab.outside, names) as asked:
        assert ask(guest, SOCK_STREAM, "198.51.100.5", 80) is None, "not looked up yet"
        assert addresses(lookup(guest, "api.example.org")) == ["198.51.100.5"]
        assert ask(guest, SOCK_STREAM, "198.51.100.5", 80) is not None
        for name in ("evil.example", "notexample.org"):
            assert lookup(guest, name).rcode() == dns.rcode.NXDOMAIN
        assert ask(guest, SOCK_STREAM, "198.51.100.6", 80) is None
        lab.networks.repair()
        assert ask(guest, SOCK_STREAM, "198.51.100.5", 80) is not None, "what was looked up stays open"
        lookup(guest, "rebind.example.org")
        assert asked == ["api.example.org.", "rebind.example.org."]
    elements = lab.nft("list", "set", "inet", "fastdock", "named4")
    assert "198.51.100.5" in elements
    assert "timeout" in elements
    assert "169.254" not in elements
    assert "127.0.0.1" not in elements


@pytest.mark.parametrize("policy", ["deny", "other.example", "203.0.113.0/24"])
def test_what_a_name_opened_is_not_the_next_containers(lab: Lab, policy: str) -> None:
    """It stays open for minutes, and the next container has the same address."""
    first = lab.guest(egress="example.org", dns=[lab.OUTSIDE4])
    with server(lab.outside, AF_INET, SOCK_STREAM, 80):
        with upstream(lab.outside, {"api.example.org.": [lab.OUTSIDE4]}):
            lookup(first, "api.example.org")
        assert ask(first, SOCK_STREAM, lab.OUTSIDE4, 80) is not None
        first.end()
        lab.networks.detach(first.id)
        second = lab.guest(egress=policy)
        assert second.address() == first.address()
        assert ask(second, SOCK_STREAM, lab.OUTSIDE4, 80) is None
    assert "elements" not in lab.nft("list", "set", "inet", "fastdock", "named4")


def test_egress_cannot_be_left_by_asking_another_server(lab: Lab) -> None:
    guest = lab.guest(egress="example.org", dns=[lab.OUTSIDE4])
    with (
        upstream(lab.outside, {"x.example.": ["203.0.113.1"]}) as asked,
        guest.socket(AF_INET, SOCK_DGRAM) as asking,
    ):
        asking.settimeout(0.3)
        asking.connect((lab.OUTSIDE4, 53))
        asking.send(dns.message.make_query("x.example", "A").to_wire())
        with pytest.raises(OSError):  # noqa: PT011 - refused or timed out, both are right
            asking.recv(500)
        assert asked == []


def test_guests_are_told_to_ask_the_resolver(named: Lab) -> None:
    guest: Guest = named.guest(
        "app",
        hostname="box",
        domainname="lan",
        dns_search=["corp.example"],
        add_host=["door:host-gateway", "one:10.0.0.1"],
    )
    assert guest.plan.resolv_conf == "search corp.example\nnameserver 127.0.0.11\noptions ndots:0\n"
    lines = guest.plan.hosts.splitlines()
    assert f"{guest.address()}\tbox.lan box" in lines
    assert "172.17.0.1\tdoor" in lines or "172.18.0.1\tdoor" in lines
    assert "10.0.0.1\tone" in lines


def test_a_running_container_joins_and_leaves_a_network(lab: Lab) -> None:
    """network connect and disconnect, with names."""
    lab.networks.create("app")
    web, client = lab.guest("app", name="web"), lab.guest(name="client", publish=["8080:80"])
    endpoint = lab.networks.connect("app", "client", aliases=["late"])
    assert (endpoint.name, endpoint.gateways) == ("eth1", ())
    assert addresses(lookup(client, "web")) == [web.address()]
    assert addresses(lookup(web, "late")) == endpoint.plain_addresses
    with server(web, AF_INET, SOCK_STREAM, 80):
        assert ask(client, SOCK_STREAM, web.address(), 80) == endpoint.plain_addresses[0]
    lab.networks.disconnect("app", client.id[:12])
    assert "eth1" not in client.run("ip", "link")
    assert lookup(web, "late").rcode() != dns.rcode.NOERROR
    lab.networks.disconnect("bridge", "client")
    assert lab.guest(publish=["8080:80"]).address() == client.address(), "port and address are free"
