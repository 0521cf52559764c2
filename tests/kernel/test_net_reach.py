"""Who reaches whom: containers, the host, and what is outside, by TCP, UDP and ICMP, over IPv4 and IPv6."""

from __future__ import annotations

import errno
import socket
from socket import AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM

import pytest
from netlab import Lab, ask, pings, server

from fastdock._errors import Conflict

pytestmark = pytest.mark.kernel
# Whether packets that a bridge forwards pass the inet hooks too; machines with Docker have it on.
BRIDGED = pytest.mark.parametrize("bridged", ["0", "1"], ids=["", "bridge-nf-call"])
KINDS = pytest.mark.parametrize("kind", [SOCK_STREAM, SOCK_DGRAM], ids=["tcp", "udp"])
PROTOCOL = {SOCK_STREAM: "tcp", SOCK_DGRAM: "udp"}


def set_bridged(lab: Lab, value: str) -> None:
    for key in ("iptables", "ip6tables"):
        lab.host.run("sysctl", "-q", f"net.bridge.bridge-nf-call-{key}={value}")


@pytest.mark.parametrize("version", [4, 6])
@BRIDGED
@KINDS
def test_the_matrix_of_one_network(lab: Lab, kind: int, version: int, bridged: str) -> None:
    """Every pair that should talk does; the outside does not come in."""
    set_bridged(lab, bridged)
    lab.networks.create("both", ipv6=True)
    one, two = lab.guest("both"), lab.guest("both")
    family = AF_INET6 if version == 6 else AF_INET
    gateway = one.plan.endpoints[0].gateways[version == 6]
    host, outside = (lab.HOST6, lab.OUTSIDE6) if version == 6 else (lab.HOST4, lab.OUTSIDE4)
    # The outside knows the way to the containers: it is only the firewall that keeps it out.
    subnet = next(s.subnet for s in lab.networks.get("both").subnets if s.version == version)
    lab.outside.run("ip", "route", "add", subnet, "via", host)
    with (
        server(one, family, kind, 80),
        server(two, family, kind, 80),
        server(lab.host, family, kind, 81, host),
        server(lab.outside, family, kind, 82),
    ):
        first, second = one.address(version), two.address(version)
        assert ask(one, kind, second, 80) == first
        assert ask(lab.host, kind, second, 80) == gateway
        assert ask(one, kind, host, 81) == first
        assert ask(one, kind, outside, 82) == host, "leaves with the host's address"
        assert ask(lab.outside, kind, first, 80, timeout=0.3) is None
    assert pings(one, second)
    assert pings(lab.host, second)
    assert pings(one, outside)
    assert not pings(lab.outside, first)


@pytest.mark.parametrize("version", [4, 6])
@BRIDGED
@KINDS
def test_a_published_port_is_reached_from_everywhere(lab: Lab, kind: int, version: int, bridged: str) -> None:
    set_bridged(lab, bridged)
    lab.networks.create("web", ipv6=True)
    lab.networks.create("other", ipv6=True)
    guest = lab.guest("web", publish=[f"8080:80/{PROTOCOL[kind]}"])
    neighbour, stranger = lab.guest("web"), lab.guest("other")
    family = AF_INET6 if version == 6 else AF_INET
    gateway = guest.plan.endpoints[0].gateways[version == 6]
    host, outside = (lab.HOST6, lab.OUTSIDE6) if version == 6 else (lab.HOST4, lab.OUTSIDE4)
    with server(guest, family, kind, 80):
        assert ask(lab.outside, kind, host, 8080) == outside, "the source address is kept"
        assert ask(lab.host, kind, host, 8080) is not None
        hairpin = neighbour.address(version) if bridged == "1" else gateway
        assert ask(neighbour, kind, host, 8080) == hairpin
        assert ask(guest, kind, host, 8080) == gateway, "to itself"
        assert ask(stranger, kind, host, 8080) == stranger.address(version)
        assert ask(stranger, kind, guest.address(version), 80, timeout=0.3) is None, "not by its own address"
        if version == 4:
            assert ask(lab.host, kind, "127.0.0.1", 8080) == gateway
        else:
            assert ask(lab.host, kind, "::1", 8080) == gateway
        lab.networks.detach(guest.id)
        assert ask(lab.outside, kind, host, 8080, timeout=0.3) is None


def test_a_port_published_on_localhost_is_the_hosts_alone(lab: Lab) -> None:
    guest = lab.guest(publish=["127.0.0.1:8080:80"])
    neighbour = lab.guest()
    with server(guest, AF_INET, SOCK_STREAM, 80):
        assert ask(lab.host, SOCK_STREAM, "127.0.0.1", 8080) is not None
        for asking in (lab.outside, neighbour):
            assert ask(asking, SOCK_STREAM, lab.HOST4, 8080, timeout=0.3) is None


def test_a_port_published_on_one_address(lab: Lab) -> None:
    lab.host.run("ip", "addr", "add", "192.0.2.3/24", "dev", "eth0")
    one, two = lab.guest(publish=["192.0.2.2:80:80"]), lab.guest(publish=["192.0.2.3:80:80"])
    with server(one, AF_INET, SOCK_STREAM, 80), server(two, AF_INET, SOCK_STREAM, 80):
        assert ask(lab.outside, SOCK_STREAM, "192.0.2.2", 80) == lab.OUTSIDE4
        lab.networks.detach(two.id)
        assert ask(lab.outside, SOCK_STREAM, "192.0.2.2", 80) == lab.OUTSIDE4
        assert ask(lab.outside, SOCK_STREAM, "192.0.2.3", 80, timeout=0.3) is None


@BRIDGED
def test_networks_do_not_reach_each_other(lab: Lab, bridged: str) -> None:
    set_bridged(lab, bridged)
    lab.networks.create("a", ipv6=True)
    lab.networks.create("b", ipv6=True)
    one, two = lab.guest("a"), lab.guest("b")
    with server(two, AF_INET, SOCK_STREAM, 80), server(two, AF_INET6, SOCK_STREAM, 80):
        assert ask(one, SOCK_STREAM, two.address(4), 80, timeout=0.3) is None
        assert ask(one, SOCK_STREAM, two.address(6), 80, timeout=0.3) is None
        assert not pings(one, two.address(4))


def test_a_container_of_two_networks_reaches_both(lab: Lab) -> None:
    lab.networks.create("a")
    lab.networks.create("b")
    middle = lab.guest("a", more=["b"])
    one, two = lab.guest("a"), lab.guest("b")
    assert pings(middle, one.address())
    assert pings(middle, two.address())
    assert not pings(one, two.address())


def test_an_internal_network_reaches_nothing_outside(lab: Lab) -> None:
    lab.networks.create("inner", internal=True)
    one, two = lab.guest("inner"), lab.guest("inner", publish=["8080:80"])
    published = lab.guest(publish=["8081:80"])
    gateway = lab.networks.get("inner").subnets[0].gateway
    assert two.plan.ports == ()
    assert pings(one, two.address())
    # Even if it makes itself a route.
    one.run("ip", "route", "add", "default", "via", gateway)
    with (
        server(lab.outside, AF_INET, SOCK_STREAM, 82),
        server(lab.host, AF_INET, SOCK_STREAM, 83),
        server(published, AF_INET, SOCK_STREAM, 80),
    ):
        assert ask(one, SOCK_STREAM, lab.OUTSIDE4, 82, timeout=0.3) is None
        assert ask(one, SOCK_STREAM, lab.HOST4, 83, timeout=0.3) is None
        assert ask(one, SOCK_STREAM, gateway, 83, timeout=0.3) is None
        assert ask(one, SOCK_STREAM, lab.HOST4, 8081, timeout=0.3) is None
    assert not pings(one, lab.OUTSIDE4)


@BRIDGED
def test_without_icc_containers_reach_only_published_ports(lab: Lab, bridged: str) -> None:
    set_bridged(lab, bridged)
    lab.networks.create("quiet", options={"com.docker.network.bridge.enable_icc": "false"})
    one, two = lab.guest("quiet"), lab.guest("quiet", publish=["8080:80"])
    with server(two, AF_INET, SOCK_STREAM, 80):
        assert ask(one, SOCK_STREAM, two.address(), 80, timeout=0.3) is None
        if bridged == "0":
            assert ask(one, SOCK_STREAM, lab.HOST4, 8080) is not None
    # Through the host's Ethernet address it is not reached either.
    one.run("ip", "route", "add", f"{two.address()}/32", "via", one.plan.endpoints[0].gateways[0])
    assert not pings(one, two.address())


def test_without_masquerading_the_containers_address_leaves(lab: Lab) -> None:
    lab.networks.create("plain", options={"com.docker.network.bridge.enable_ip_masquerade": "false"})
    guest = lab.guest("plain")
    lab.outside.run("ip", "route", "add", lab.networks.get("plain").subnets[0].subnet, "via", lab.HOST4)
    with server(lab.outside, AF_INET, SOCK_STREAM, 82):
        assert ask(guest, SOCK_STREAM, lab.OUTSIDE4, 82) == guest.address()


def test_a_taken_port_says_who_has_it(lab: Lab) -> None:
    lab.guest(name="holder", publish=["8080:80"])
    with pytest.raises(Conflict, match="port 8080/tcp is in use by the container holder"):
        lab.guest(publish=["8080:80"])
    with pytest.raises(Conflict, match="in use by the container holder"):
        lab.guest(publish=["127.0.0.1:8080:80"])
    with (
        socket.create_server(("127.0.0.1", 9090)),
        pytest.raises(Conflict, match=r"in use by py.*process") as caught,
    ):
        lab.guest(publish=["9090:80"])
    assert caught.value.errno == errno.EADDRINUSE
    assert lab.guest(publish=["8080:80/udp"]).plan.ports[0].host_port == 8080, "another protocol's is free"


def test_a_failed_plan_takes_nothing(lab: Lab) -> None:
    lab.guest(publish=["8080:80"])
    with pytest.raises(Conflict):
        lab.guest(publish=["7000:80", "8080:80"])
    guest = lab.guest(publish=["7000:80"])
    assert guest.address() == "172.17.0.3"


def test_random_ports_and_ranges(lab: Lab) -> None:
    guest = lab.guest(publish=["80", "127.0.0.1::81"], publish_all=True, exposed=["80/tcp", "90/udp"])
    ports = {(p.container_port, p.protocol): p for p in guest.plan.ports}
    assert set(ports) == {(80, "tcp"), (81, "tcp"), (90, "udp")}
    assert ports[81, "tcp"].host == "127.0.0.1"
    with server(guest, AF_INET, SOCK_STREAM, 80):
        assert ask(lab.outside, SOCK_STREAM, lab.HOST4, ports[80, "tcp"].host_port) == lab.OUTSIDE4
    taken = [lab.guest(publish=["8000-8001:80"]).plan.ports[0].host_port for _ in range(2)]
    assert taken == [8000, 8001]
    with pytest.raises(Conflict, match="no port is free"):
        lab.guest(publish=["8000-8001:80"])


def test_sctp_ports_are_translated(lab: Lab) -> None:
    """This kernel has no SCTP sockets; the packets themselves show where they go."""
    guest = lab.guest(publish=["3868:3868/sctp"])
    with guest.socket(AF_INET, socket.SOCK_RAW, socket.IPPROTO_SCTP) as listening:
        with lab.outside.socket(AF_INET, socket.SOCK_RAW, socket.IPPROTO_SCTP) as sending:
            sending.sendto(_sctp_init(40000, 3868), (lab.HOST4, 0))
        packet = listening.recv(2000)
    assert socket.inet_ntoa(packet[12:16]) == lab.OUTSIDE4
    assert int.from_bytes(packet[22:24]) == 3868


def _sctp_init(source: int, destination: int) -> bytes:
    """An INIT chunk (RFC 9260, 3.3.2) with its CRC32c."""
    chunk = (
        bytes([1, 0])
        + (20).to_bytes(2)
        + bytes([0, 0, 0, 1])
        + (65536).to_bytes(4)
        + bytes([0, 1, 0, 1])
        + bytes([0, 0, 0, 1])
    )
    packet = source.to_bytes(2) + destination.to_bytes(2) + bytes(8) + chunk
    crc = 0xFFFFFFFF
    for byte in packet:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return packet[:8] + (crc ^ 0xFFFFFFFF).to_bytes(4, "little") + packet[12:]


def test_beside_a_firewall_that_drops_what_is_forwarded(lab: Lab) -> None:
    """As Docker and ufw leave it: iptables' FORWARD chain drops by default."""
    lab.host.run("iptables", "-P", "FORWARD", "DROP")
    lab.host.run("iptables", "-N", "DOCKER-USER")
    lab.host.run("iptables", "-A", "FORWARD", "-j", "DOCKER-USER")
    before = lab.host.run("iptables", "-S", "FORWARD")
    network = lab.networks.create("ours")
    one, two = lab.guest("ours", publish=["8080:80"]), lab.guest("ours")
    assert lab.host.run("iptables", "-S", "FORWARD") == before
    with server(one, AF_INET, SOCK_STREAM, 80), server(lab.outside, AF_INET, SOCK_STREAM, 82):
        assert ask(two, SOCK_STREAM, one.address(), 80) is not None, (
            "also where bridged packets pass iptables"
        )
        assert ask(lab.outside, SOCK_STREAM, lab.HOST4, 8080) == lab.OUTSIDE4
        assert ask(one, SOCK_STREAM, lab.OUTSIDE4, 82) == lab.HOST4
    for guest in (one, two):
        guest.close()
    lab.guests.clear()
    lab.networks.remove(network.id)
    assert "fastdock" not in lab.host.run("iptables", "-S")


def test_other_tables_are_left_alone(lab: Lab) -> None:
    lab.nft("add", "table", "inet", "theirs")
    lab.nft("add", "chain", "inet", "theirs", "forward", "{ type filter hook forward priority 0; }")
    lab.nft("add", "rule", "inet", "theirs", "forward", "tcp", "dport", "82", "drop")
    before = lab.nft("list", "table", "inet", "theirs")
    guest = lab.guest()
    with server(lab.outside, AF_INET, SOCK_STREAM, 82):
        assert ask(guest, SOCK_STREAM, lab.OUTSIDE4, 82, timeout=0.3) is None, "their drop is their right"
    lab.networks.repair()
    assert lab.nft("list", "table", "inet", "theirs") == before
