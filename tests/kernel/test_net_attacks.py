"""A container, or a neighbour of the host, that does not play by the rules (SECURITY.md, "Network and API")."""

from __future__ import annotations

import socket
from socket import AF_INET, SOCK_DGRAM, SOCK_STREAM

import pytest
from netlab import Guest, Lab, Namespace, ask, pings, server

pytestmark = pytest.mark.kernel

ETH_IP, ETH_ARP, ETH_IPV6, ETH_VLAN = 0x0800, 0x0806, 0x86DD, 0x8100
BROADCAST = b"\xff" * 6


class Wire:
    """Raw frames of a namespace's device."""

    def __init__(self, where: Namespace, device: str = "eth0") -> None:
        self.socket = where.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.bind((device, 3))

    def send(self, destination: bytes, source: bytes, kind: int, payload: bytes) -> None:
        self.socket.send(destination + source + kind.to_bytes(2) + payload)

    def sees(self, *needles: bytes, seconds: float = 0.3) -> bool:
        """Whether a frame with any of these bytes arrives (what we sent ourselves does not count)."""
        self.socket.settimeout(seconds)
        try:
            while True:
                frame, address = self.socket.recvfrom(2000)
                if address[2] != socket.PACKET_OUTGOING and any(n in frame for n in needles):
                    return True
        except TimeoutError:
            return False

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def ipv4(source: str, destination: str, payload: bytes, protocol: int = 17) -> bytes:
    header = bytes([0x45, 0]) + (20 + len(payload)).to_bytes(2) + bytes([0, 1, 0, 0, 64, protocol, 0, 0])
    header += socket.inet_aton(source) + socket.inet_aton(destination)
    total = sum(int.from_bytes(header[i : i + 2]) for i in range(0, 20, 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return header[:10] + (~total & 0xFFFF).to_bytes(2) + header[12:] + payload


def udp(port: int, data: bytes) -> bytes:
    return (40000).to_bytes(2) + port.to_bytes(2) + (8 + len(data)).to_bytes(2) + bytes(2) + data


def arp(operation: int, sender_mac: bytes, sender: str, target: str) -> bytes:
    return (
        bytes([0, 1, 8, 0, 6, 4])
        + operation.to_bytes(2)
        + sender_mac
        + socket.inet_aton(sender)
        + bytes(6)
        + socket.inet_aton(target)
    )


def icmp6(source: str, destination: str, message: bytes) -> bytes:
    src, dst = (socket.inet_pton(socket.AF_INET6, a) for a in (source, destination))
    pseudo = src + dst + len(message).to_bytes(4) + bytes([0, 0, 0, 58])
    data = pseudo + message[:2] + bytes(2) + message[4:] + bytes(len(message) % 2)
    total = sum(int.from_bytes(data[i : i + 2]) for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    message = message[:2] + (~total & 0xFFFF).to_bytes(2) + message[4:]
    return bytes([0x60, 0, 0, 0]) + len(message).to_bytes(2) + bytes([58, 255]) + src + dst + message


@pytest.fixture
def three(lab: Lab) -> tuple[Guest, Guest, Guest]:
    """Attacker, victim and whom the victim trusts."""
    lab.networks.create("both", subnets=["10.5.0.0/24", "fd00:5::/64"])
    return lab.guest("both"), lab.guest("both"), lab.guest("both")


def own_mac(guest: Guest) -> bytes:
    return bytes.fromhex(guest.plan.endpoints[0].mac.replace(":", ""))


def test_the_tools_work(three: tuple[Guest, Guest, Guest]) -> None:
    """Honest frames arrive, so that the tests below mean something."""
    attacker, victim, _ = three
    with Wire(attacker) as out, Wire(victim) as wire:
        out.send(
            own_mac(victim),
            own_mac(attacker),
            ETH_IP,
            ipv4(attacker.address(), victim.address(), udp(9, b"honest-4")),
        )
        assert wire.sees(b"honest-4", seconds=2)
        out.send(
            BROADCAST,
            own_mac(attacker),
            ETH_ARP,
            arp(1, own_mac(attacker), attacker.address(), victim.address()),
        )
        assert wire.sees(arp(1, own_mac(attacker), attacker.address(), victim.address())[:18], seconds=2)
        advert = bytes([136, 0, 0, 0, 0x20, 0, 0, 0]) + socket.inet_pton(socket.AF_INET6, attacker.address(6))
        packet = icmp6(attacker.address(6), victim.address(6), advert)
        out.send(own_mac(victim), own_mac(attacker), ETH_IPV6, packet)
        assert wire.sees(packet, seconds=2)


def test_another_source_address(three: tuple[Guest, Guest, Guest]) -> None:
    attacker, victim, friend = three
    with Wire(attacker) as out, Wire(victim) as wire:
        for source in (friend.address(), "10.5.0.1", "8.8.8.8", "0.0.0.0", "127.0.0.1"):
            out.send(
                own_mac(victim),
                own_mac(attacker),
                ETH_IP,
                ipv4(source, victim.address(), udp(9, b"spoofed!")),
            )
        assert not wire.sees(b"spoofed!")


def test_another_ethernet_address(three: tuple[Guest, Guest, Guest]) -> None:
    """It would also teach the bridge that the friend lives at the attacker's port."""
    attacker, victim, friend = three
    with Wire(attacker) as out, Wire(victim) as wire:
        for source in (own_mac(friend), b"\x02\x11\x22\x33\x44\x55"):
            out.send(
                own_mac(victim),
                source,
                ETH_IP,
                ipv4(attacker.address(), victim.address(), udp(9, b"spoofed!")),
            )
            report = bytes([143, 0, 0, 0, 0, 0, 0, 0]) + b"spoofed!"
            out.send(b"\x33\x33\0\0\0\x16", source, ETH_IPV6, icmp6("::", "ff02::16", report))
        assert not wire.sees(b"spoofed!")
    assert pings(victim, friend.address())


def test_arp_for_another(three: tuple[Guest, Guest, Guest], lab: Lab) -> None:
    attacker, victim, friend = three
    assert pings(victim, friend.address())
    before = victim.run("ip", "neigh", "show", friend.address()).split("lladdr")[1].split()[0]
    lies = [
        (own_mac(attacker), arp(operation, own_mac(attacker), claimed, victim.address()))
        for operation in (1, 2)
        for claimed in (friend.address(), "10.5.0.1")
    ]
    # The right addresses in the packet, but from another Ethernet address; and the other way round.
    lies.append((own_mac(friend), arp(2, own_mac(attacker), attacker.address(), victim.address())))
    lies.append((own_mac(attacker), arp(2, own_mac(friend), attacker.address(), victim.address())))
    with Wire(attacker) as out, Wire(victim) as wire:
        for source, lie in lies:
            out.send(own_mac(victim), source, ETH_ARP, lie)
            out.send(BROADCAST, source, ETH_ARP, lie)
        assert not wire.sees(*(lie for _, lie in lies))
    assert before in victim.run("ip", "neigh", "show", friend.address())


def test_neighbour_and_router_advertisements(three: tuple[Guest, Guest, Guest]) -> None:
    attacker, victim, friend = three
    own, theirs = attacker.address(6), friend.address(6)
    target = socket.inet_pton(socket.AF_INET6, theirs)
    lies = {
        "advertises another": icmp6(own, victim.address(6), bytes([136, 0, 0, 0, 0x60, 0, 0, 0]) + target),
        "as another": icmp6(theirs, victim.address(6), bytes([136, 0, 0, 0, 0x60, 0, 0, 0]) + target),
        "probes for another": icmp6("::", "ff02::1:ff00:4", bytes([135, 0, 0, 0, 0, 0, 0, 0]) + target),
        "is a router": icmp6(own, "ff02::1", bytes([134, 0, 0, 0, 64, 0, 7, 8]) + bytes(8)),
        "redirects": icmp6(own, victim.address(6), bytes([137, 0, 0, 0, 0, 0, 0, 0]) + target + target),
        "another's source": icmp6("fd00:5::1", victim.address(6), bytes([128, 0, 0, 0, 0, 0, 0, 0])),
    }
    with Wire(attacker) as out, Wire(victim) as wire:
        for lie in lies.values():
            out.send(own_mac(victim), own_mac(attacker), ETH_IPV6, lie)
            out.send(b"\x33\x33\0\0\0\x01", own_mac(attacker), ETH_IPV6, lie)
        assert not wire.sees(*lies.values())


def test_the_host_believes_no_router_advertisement(three: tuple[Guest, Guest, Guest], lab: Lab) -> None:
    """CVE-2020-13401: even if one came through."""
    lab.nft("flush", "chain", "bridge", "fastdock", "from_container")
    lab.nft("flush", "chain", "bridge", "fastdock", "prerouting")
    attacker = three[0]
    prefix = (
        bytes([3, 4, 64, 0xC0])
        + (3600).to_bytes(4) * 2
        + bytes(4)
        + socket.inet_pton(socket.AF_INET6, "fd66::")
    )
    source = "fe80::42:aff:fe05:2"
    advert = icmp6(source, "ff02::1", bytes([134, 0, 0, 0, 64, 0, 7, 8]) + bytes(8) + prefix)
    with Wire(attacker) as out, Wire(lab.host, lab.networks.get("both").device) as wire:
        out.send(b"\x33\x33\0\0\0\x01", own_mac(attacker), ETH_IPV6, advert)
        assert wire.sees(advert, seconds=2)
    assert "fd66" not in lab.host.run("ip", "-6", "route")


def test_other_protocols_and_vlan_tags(three: tuple[Guest, Guest, Guest]) -> None:
    attacker, victim, friend = three
    packet = ipv4(friend.address(), victim.address(), udp(9, b"tagged!!"))
    with Wire(attacker) as out, Wire(victim) as wire:
        out.send(own_mac(victim), own_mac(attacker), ETH_VLAN, bytes([0, 0]) + ETH_IP.to_bytes(2) + packet)
        out.send(own_mac(victim), own_mac(attacker), ETH_VLAN, bytes([0, 5]) + ETH_IP.to_bytes(2) + packet)
        honest = ipv4(attacker.address(), victim.address(), udp(9, b"tagged!!"))
        out.send(own_mac(victim), own_mac(attacker), ETH_VLAN, bytes([0, 5]) + ETH_IP.to_bytes(2) + honest)
        out.send(own_mac(victim), own_mac(attacker), 0x88CC, b"tagged!!")  # LLDP
        assert not wire.sees(b"tagged!!")


def test_a_port_that_nobody_knows_sends_nothing(lab: Lab) -> None:
    """Fails closed: with no element for it, a container's port is mute."""
    one, two = lab.guest(), lab.guest()
    lab.nft("flush", "set", "bridge", "fastdock", "senders4")
    assert not pings(one, two.address())


def test_unpublished_ports_are_not_reached_by_routing(lab: Lab) -> None:
    """moby issue 45610: a neighbour that uses the host as its gateway to the containers."""
    guest = lab.guest(publish=["8080:80"])
    lab.outside.run("ip", "route", "add", "172.17.0.0/16", "via", lab.HOST4)
    with server(guest, AF_INET, SOCK_STREAM, 80), server(guest, AF_INET, SOCK_DGRAM, 5000):
        assert ask(lab.outside, SOCK_STREAM, lab.HOST4, 8080) == lab.OUTSIDE4
        assert ask(lab.outside, SOCK_STREAM, guest.address(), 80, timeout=0.3) is None, (
            "not even the published one"
        )
        assert ask(lab.outside, SOCK_DGRAM, guest.address(), 5000, timeout=0.3) is None
    assert not pings(lab.outside, guest.address())


def test_localhost_ports_are_not_reached_by_neighbours(lab: Lab) -> None:
    """CVE-2020-8558: packets to 127.0.0.1 from the wire and from a container."""
    guest = lab.guest(publish=["127.0.0.1:8080:80"])
    attacker = lab.guest()
    bridge = "fastdock0"
    assert lab.host.sysctl(f"ipv4/conf/{bridge}/route_localnet") == "1", "what makes it dangerous"
    with lab.host.socket(AF_INET, SOCK_DGRAM) as secret, Wire(lab.host, bridge) as at_bridge:
        secret.bind(("127.0.0.1", 5353))
        secret.settimeout(0.3)
        for sender, source in ((lab.outside, lab.OUTSIDE4), (attacker, attacker.address())):
            device_mac = _mac_of(lab, lab.host, "eth0" if sender is lab.outside else bridge)
            with Wire(sender) as out:
                own = own_mac(attacker) if sender is attacker else _mac_of(lab, sender, "eth0")
                out.send(device_mac, own, ETH_IP, ipv4(source, "127.0.0.1", udp(5353, b"attack!!")))
                out.send(device_mac, own, ETH_IP, ipv4("127.0.0.1", "127.0.0.1", udp(5353, b"attack!!")))
        with pytest.raises(TimeoutError):
            secret.recv(100)
        assert at_bridge.socket.fileno() >= 0
    # Nor the published port, by packets to 127.0.0.1 on the wire.
    with server(guest, AF_INET, SOCK_DGRAM, 80), Wire(guest) as wire:
        for sender in (lab.outside, attacker):
            sender.run("ip", "route", "add", "127.0.0.0/9", "via", _gateway(lab, sender), check=False)
        with Wire(lab.outside) as out:
            out.send(
                _mac_of(lab, lab.host, "eth0"),
                _mac_of(lab, lab.outside, "eth0"),
                ETH_IP,
                ipv4(lab.OUTSIDE4, "127.0.0.1", udp(8080, b"attack!!")),
            )
        assert not wire.sees(b"attack!!")


def _mac_of(lab: Lab, where: Namespace, device: str) -> bytes:
    with lab.oracle(where) as oracle:
        (link,) = oracle.get_links(ifname=device)
    return bytes.fromhex(link.get_attr("IFLA_ADDRESS").replace(":", ""))


def _gateway(lab: Lab, sender: Namespace) -> str:
    return lab.HOST4 if sender is lab.outside else "172.17.0.1"


def test_a_flood_of_other_sources_fills_no_table(lab: Lab) -> None:
    """Ethernet addresses that a container makes up are not learned by the bridge."""
    guest = lab.guest()
    before = lab.host.run("bridge", "fdb", "show", "br", "fastdock0").count("\n")
    with Wire(guest) as out:
        for number in range(500):
            out.send(
                BROADCAST, b"\x02\x99\x00\x00" + number.to_bytes(2), ETH_IP, ipv4("1.2.3.4", "5.6.7.8", b"")
            )
    assert lab.host.run("bridge", "fdb", "show", "br", "fastdock0").count("\n") <= before + 2
