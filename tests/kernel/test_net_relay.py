"""Ports of the host's IPv6 addresses that lead to containers without one, and those asked for by ::1."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from socket import AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM

import pytest
from netlab import Lab, ask, serve, server

from fastdock._errors import Conflict
from fastdock.network import NetworkOptions, relay

pytestmark = pytest.mark.kernel
PROTOCOL = {SOCK_STREAM: "tcp", SOCK_DGRAM: "udp"}
KINDS = pytest.mark.parametrize("kind", [SOCK_STREAM, SOCK_DGRAM], ids=["tcp", "udp"])
BRIDGED = pytest.mark.parametrize("bridged", ["0", "1"], ids=["", "bridge-nf-call"])


def relay_of(lab: Lab) -> int:
    """The process that listens on the relay's control socket, once it does so itself."""
    while True:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            probe.connect(lab.networks.relay_socket)
            pid = int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little")
        if Path(f"/proc/{pid}").exists():  # otherwise it is who started it, or whose copy it is
            return pid


def relay_port(lab: Lab) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.connect(lab.networks.relay_socket)
        return int(probe.recv(16))


def copy_of(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    while not (found := children.read_text().split()):
        os.sched_yield()
    return int(found[-1])


def kill(pid: int) -> None:
    """Returns when it is gone."""
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    select.select([pidfd], [], [])
    os.close(pidfd)


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        os.sched_yield()


@KINDS
def test_a_container_without_ipv6_is_reached_by_it(lab: Lab, kind: int) -> None:
    """From outside by the host's address, from the host by ::1 and by its addresses."""
    guest = lab.guest(publish=[f"8080:80/{PROTOCOL[kind]}"])
    gateway = guest.plan.endpoints[0].gateways[0]
    with server(guest, AF_INET, kind, 80):
        assert ask(lab.outside, kind, lab.HOST6, 8080) == gateway, "it sees the bridge's address"
        assert ask(lab.host, kind, "::1", 8080) == gateway
        assert ask(lab.host, kind, lab.HOST6, 8080) == gateway
        assert ask(lab.outside, kind, lab.HOST4, 8080) == lab.OUTSIDE4, "IPv4 is translated"
        assert ask(lab.host, kind, "::1", 80) is None
        assert ask(lab.outside, kind, lab.HOST6, 8081, timeout=0.3) is None
        lab.networks.detach(guest.id)
        assert ask(lab.host, kind, "::1", 8080, timeout=0.3) is None
        assert ask(lab.outside, kind, lab.HOST6, 8080, timeout=0.3) is None


@BRIDGED
@KINDS
def test_from_another_container_by_the_hosts_address(lab: Lab, kind: int, bridged: str) -> None:
    for key in ("iptables", "ip6tables"):
        lab.host.run("sysctl", "-q", f"net.bridge.bridge-nf-call-{key}={bridged}")
    lab.networks.create("both", ipv6=True)
    guest, other = lab.guest(publish=[f"8080:80/{PROTOCOL[kind]}"]), lab.guest("both")
    with server(guest, AF_INET, kind, 80):
        assert ask(other, kind, lab.HOST6, 8080) == guest.plan.endpoints[0].gateways[0]


@KINDS
def test_localhost_of_a_container_with_ipv6(lab: Lab, kind: int) -> None:
    lab.networks.create("both", ipv6=True)
    guest = lab.guest("both", publish=[f"8080:80/{PROTOCOL[kind]}"])
    with server(guest, AF_INET6, kind, 80):
        assert ask(lab.host, kind, "::1", 8080) == guest.plan.endpoints[0].gateways[1]
        assert ask(lab.outside, kind, lab.HOST6, 8080) == lab.OUTSIDE6, "translated, not relayed"


@pytest.mark.parametrize("ipv6", [False, True])
def test_the_host_address_of_a_port_counts(lab: Lab, ipv6: bool) -> None:
    """Two containers have the same port, one on 127.0.0.1 and one on ::1."""
    lab.networks.create("app", ipv6=ipv6)
    four, six = lab.guest("app", publish=["127.0.0.1:8080:80"]), lab.guest("app", publish=["[::1]:8080:80"])
    own = lab.guest("app", publish=[f"[{lab.HOST6}]:8081:80"])
    family = AF_INET6 if ipv6 else AF_INET
    with server(six, family, SOCK_STREAM, 80), server(own, family, SOCK_STREAM, 80):
        assert ask(lab.host, SOCK_STREAM, "127.0.0.1", 8080) is None, "nobody serves there"
        assert ask(lab.host, SOCK_STREAM, "::1", 8080) is not None
        assert ask(lab.host, SOCK_STREAM, lab.HOST6, 8080) is None
        assert ask(lab.outside, SOCK_STREAM, lab.HOST6, 8080, timeout=0.3) is None
        assert ask(lab.outside, SOCK_STREAM, lab.HOST6, 8081) is not None
        assert ask(lab.host, SOCK_STREAM, "::1", 8081) is None
    with server(four, AF_INET, SOCK_STREAM, 80):
        assert ask(lab.host, SOCK_STREAM, "127.0.0.1", 8080) is not None
        assert ask(lab.host, SOCK_STREAM, "::1", 8080) is None


def test_only_published_ports_are_relayed(lab: Lab) -> None:
    """Who connects to the relay itself is refused, wherever from; a policy of a network holds."""
    lab.networks.create("both", ipv6=True)
    lab.networks.create("inner", ipv6=True, internal=True)
    guest = lab.guest(publish=["8080:80"])
    denied, inner = lab.guest("both", egress="deny"), lab.guest("inner")
    gateway = lab.networks.get("inner").subnets[1].gateway
    inner.run("ip", "-6", "route", "add", "default", "via", gateway)
    port = relay_port(lab)
    with server(guest, AF_INET, SOCK_STREAM, 80):
        for asking, address in ((lab.host, "::1"), (lab.outside, lab.HOST6), (lab.host, lab.HOST6)):
            assert ask(asking, SOCK_STREAM, address, port) is None
        for asking, address in ((denied, lab.HOST6), (inner, lab.HOST6), (inner, gateway)):
            assert ask(asking, SOCK_STREAM, address, 8080, timeout=0.3) is None
            assert ask(asking, SOCK_STREAM, address, port, timeout=0.3) is None
        assert ask(lab.outside, SOCK_STREAM, lab.HOST6, 8080) is not None


def test_bytes_pass_in_both_directions_until_each_side_has_ended(lab: Lab) -> None:
    guest = lab.guest(publish=["8080:80"])
    sent = os.urandom(3_000_000)
    with guest.socket(AF_INET, SOCK_STREAM) as listening:
        listening.bind(("", 80))
        listening.listen()
        with lab.outside.socket(AF_INET6, SOCK_STREAM) as asking:
            asking.connect((lab.HOST6, 8080))
            serving, _ = listening.accept()
            with serving:
                serving.settimeout(5)
                for one, other in ((asking, serving), (serving, asking)):
                    got = bytearray()
                    view = memoryview(sent)
                    while view:
                        view = view[one.send(view[:100_000]) :]
                        while select.select([other], [], [], 0)[0]:
                            got += other.recv(1 << 20)
                    one.shutdown(socket.SHUT_WR)
                    while data := other.recv(1 << 20):
                        got += data
                    assert bytes(got) == sent


def test_a_sender_of_datagrams_has_an_answer_from_the_address_that_it_asked(lab: Lab) -> None:
    """Several datagrams are one sender's to the container; large ones pass."""
    lab.host.run("ip", "addr", "add", "2001:db8::3/64", "dev", "eth0", "nodad")
    guest = lab.guest(publish=["8080:80/udp", "8081:81/udp"])
    with guest.socket(AF_INET, SOCK_DGRAM) as one, guest.socket(AF_INET, SOCK_DGRAM) as two:
        one.bind(("", 80))
        two.bind(("", 81))
        for address in (lab.HOST6, "2001:db8::3"):
            with lab.outside.socket(AF_INET6, SOCK_DGRAM) as asking:
                asking.connect((address, 8080))  # takes answers from there only
                asking.send(b"x" * 9000)
                data, sender = one.recvfrom(65536)
                asking.send(b"again")
                assert (data, one.recvfrom(100)) == (b"x" * 9000, (b"again", sender))
                one.sendto(b"y" * 9000, sender)
                assert asking.recv(65536) == b"y" * 9000
                asking.connect((address, 8081))
                asking.send(b"other")
                assert two.recv(100) == b"other"


def test_datagrams_go_to_who_has_the_port_now(lab: Lab) -> None:
    """A sender goes on when the container has been replaced; the first one's address is another's, then."""
    first = lab.guest(publish=["8080:80/udp"])
    with lab.outside.socket(AF_INET6, SOCK_DGRAM) as asking:
        asking.connect((lab.HOST6, 8080))
        with first.socket(AF_INET, SOCK_DGRAM) as serving:
            serving.bind(("", 80))
            asking.send(b"one")
            assert serving.recv(10) == b"one"
        address = first.address()
        lab.networks.detach(first.id)
        stranger = lab.guest()
        assert stranger.address() == address
        second = lab.guest(publish=["8080:80/udp"])
        with stranger.socket(AF_INET, SOCK_DGRAM) as wrong, second.socket(AF_INET, SOCK_DGRAM) as serving:
            wrong.bind(("", 80))
            serving.bind(("", 80))
            while not select.select([serving], [], [], 0.05)[0]:
                asking.send(b"two")
            # It is asked for anew after a second: from then on nothing comes here.
            while select.select([wrong], [], [], 0)[0]:
                wrong.recv(10)
            asking.send(b"three")
            while serving.recv(10) != b"three":
                pass
            assert not select.select([wrong], [], [], 0)[0]


def test_nobody_listens_in_the_container(lab: Lab) -> None:
    lab.guest(publish=["8080:80"])
    with lab.host.socket(AF_INET6, SOCK_STREAM) as asking:
        asking.connect(("::1", 8080))
        with pytest.raises(ConnectionResetError):
            asking.recv(1)


def test_a_killed_relay_goes_on_as_another_process(lab: Lab) -> None:
    guest = lab.guest(publish=["8080:80"])
    with server(guest, AF_INET, SOCK_STREAM, 80):
        for _ in range(3):
            old = relay_of(lab)
            copy = copy_of(old)
            kill(old)
            assert ask(lab.host, SOCK_STREAM, "::1", 8080) is not None
            assert copy_of(copy) != old, "and it has a copy itself"


def test_a_killed_copy_is_made_again(lab: Lab) -> None:
    guest = lab.guest(publish=["8080:80"])
    process = relay_of(lab)
    copy = copy_of(process)
    kill(copy)
    until(lambda: copy_of(process) != copy)
    kill(process)
    with server(guest, AF_INET, SOCK_STREAM, 80):
        assert ask(lab.host, SOCK_STREAM, "::1", 8080) is not None


def test_relay_and_copy_killed_at_once_come_back_with_the_next_start(lab: Lab) -> None:
    guest = lab.guest(publish=["8080:80"])
    process = relay_of(lab)
    copy = copy_of(process)
    os.kill(process, signal.SIGSTOP)  # so that it makes no other
    kill(copy)
    kill(process)
    with server(guest, AF_INET, SOCK_STREAM, 80):
        assert ask(lab.host, SOCK_STREAM, "::1", 8080) is None, "refused, not lost"
        lab.guest(publish=["8081:80"])
        assert ask(lab.host, SOCK_STREAM, "::1", 8080) is not None


def test_more_connections_than_it_may_hold_wait(lab: Lab) -> None:
    """Ten, with so few descriptors; the others are served as those end."""
    lab.guest(publish=["0.0.0.0:8080:80"])  # makes the tables
    few = ("prlimit", "--nofile=124:124", relay.PROGRAM, lab.networks.relay_socket, "fastdock")
    lab.host.run(*few)
    guest = lab.guest(publish=["8081:80"])
    descriptors = Path(f"/proc/{relay_of(lab)}/fd")
    with guest.socket(AF_INET, SOCK_STREAM) as listening:
        listening.bind(("", 80))
        listening.listen(64)
        asking = [lab.host.call(lambda: socket.create_connection(("::1", 8081), 5)) for _ in range(25)]
        serving = [listening.accept()[0] for _ in range(10)]
        assert len(list(descriptors.iterdir())) < 124
        assert not select.select([listening], [], [], 0.3)[0]
        for _ in range(15):
            asking.pop(0).close()
            serving.pop(0).close()
            serving.append(listening.accept()[0])
        for each in (*asking, *serving):
            each.close()


def test_the_relay_ends_when_nothing_is_published_any_more(lab: Lab) -> None:
    guest = lab.guest(publish=["0.0.0.0:8080:80"])  # makes the tables
    path = lab.networks.relay_socket
    lab.host.run(relay.PROGRAM, path, "fastdock", "1")
    pidfd = os.pidfd_open(relay_of(lab))
    lab.networks.detach(guest.id)
    select.select([pidfd], [], [])
    os.close(pidfd)
    with server(lab.guest(publish=["8080:80"]), AF_INET, SOCK_STREAM, 80):
        assert ask(lab.host, SOCK_STREAM, "::1", 8080) is not None, "the next is told where it listens"


def test_a_flush_is_repaired(lab: Lab) -> None:
    guest = lab.guest(publish=["8080:80"])
    with server(guest, AF_INET, SOCK_STREAM, 80):
        lab.nft("flush", "ruleset")
        assert ask(lab.host, SOCK_STREAM, "::1", 8080) is None
        lab.networks.repair()
        assert ask(lab.host, SOCK_STREAM, "::1", 8080) is not None


def test_what_the_relay_may_do(lab: Lab) -> None:
    lab.guest(publish=["8080:80"])
    status = Path(f"/proc/{relay_of(lab)}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split()[0] == "65534"
    assert int(fields["CapEff"], 16) == 1 << 12, "CAP_NET_ADMIN, to ask the firewall"
    assert fields["NoNewPrivs"] == "1"
    assert int(fields["VmRSS"].split()[0]) < 6000


def test_the_relays_descriptors_go_with_their_connections(lab: Lab) -> None:
    guest = lab.guest(publish=["8080:80"])
    descriptors = Path(f"/proc/{relay_of(lab)}/fd")
    before = len(list(descriptors.iterdir()))
    with serve(guest, AF_INET, SOCK_STREAM, "0.0.0.0", 80) as serving:
        for _ in range(50):
            assert ask(lab.host, SOCK_STREAM, "::1", 8080) is not None
        serving.shutdown(socket.SHUT_RDWR)
    for _ in range(50):
        ask(lab.host, SOCK_STREAM, "::1", 8080)
    until(lambda: len(list(descriptors.iterdir())) <= before)


def test_a_port_that_a_program_of_the_host_has_on_ipv6(lab: Lab) -> None:
    with (
        server(lab.host, AF_INET6, SOCK_STREAM, 8085),
        pytest.raises(Conflict, match=r"8085/tcp: it is in use by"),
    ):
        lab.guest(publish=["8085:80"])


def test_ports_move_to_a_network_of_another_kind(lab: Lab) -> None:
    """The network that led out had IPv6, the next one has none: what was translated is relayed."""
    lab.networks.create("both", ipv6=True)
    lab.networks.create("four")
    guest = lab.guest("both", publish=["8080:80"], more=["four"])
    with server(guest, AF_INET, SOCK_STREAM, 80), server(guest, AF_INET6, SOCK_STREAM, 80):
        assert ask(lab.outside, SOCK_STREAM, lab.HOST6, 8080) == lab.OUTSIDE6
        lab.networks.disconnect("both", guest.id)
        assert ask(lab.outside, SOCK_STREAM, lab.HOST6, 8080) is not None
        document = lab.networks.document(guest.id)
        assert document is not None
        assert {port.relayed for port in document.ports} == {False, True}


def test_without_a_port_on_ipv6_there_is_no_relay(lab: Lab) -> None:
    lab.guest(publish=["127.0.0.1:8080:80", "0.0.0.0:8081:80/udp", "8082:80/sctp"])
    assert not Path(lab.networks.relay_socket).exists()
    plan = lab.networks.plan("f" * 64, NetworkOptions(publish=["8083:80"]))
    assert [port.family for port in plan.ports] == [AF_INET, AF_INET6]
    lab.networks.detach("f" * 64)
