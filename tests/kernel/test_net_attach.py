"""What a container finds in its network namespace, and what is left of it afterwards."""

from __future__ import annotations

import errno
import os
import socket

import pytest
from netlab import Lab, Namespace, pings

from fastdock._core import net
from fastdock._errors import Conflict, KernelError
from fastdock.network import Attachment, NetworkOptions

pytestmark = pytest.mark.kernel


def _links(lab: Lab) -> set[str]:
    with lab.oracle(lab.host) as oracle:
        return {link.get_attr("IFLA_IFNAME") for link in oracle.get_links()}


def test_a_container_gets_its_device_address_and_route(lab: Lab) -> None:
    guest = lab.guest()
    with lab.oracle(guest) as oracle:
        (eth0,) = oracle.get_links(ifname="eth0")
        assert eth0.get_attr("IFLA_ADDRESS") == "02:42:ac:11:00:02"
        assert eth0["state"] == "up"
        addresses = {a.get_attr("IFA_ADDRESS"): a["prefixlen"] for a in oracle.get_addr(index=eth0["index"])}
        assert addresses == {"172.17.0.2": 16}, "IPv4 only: not even a link-local IPv6 address"
        (route,) = oracle.get_default_routes(family=socket.AF_INET)
        assert route.get_attr("RTA_GATEWAY") == "172.17.0.1"
        (lo,) = oracle.get_links(ifname="lo")
        assert lo["state"] == "up"
    assert guest.sysctl("ipv6/conf/eth0/disable_ipv6") == "1"


def test_ipv6_has_no_tentative_addresses_and_believes_no_router(lab: Lab) -> None:
    lab.networks.create("six", subnets=["fd00:1::/64"])
    guest = lab.guest("six")
    assert guest.sysctl("ipv6/conf/eth0/accept_ra") == "0"
    with lab.oracle(guest) as oracle:
        (address,) = [
            a for a in oracle.get_addr(family=socket.AF_INET6) if a.get_attr("IFA_ADDRESS") == "fd00:1::2"
        ]
        assert not address["flags"] & 0x40, "IFA_F_TENTATIVE"
    bridge = lab.networks.get("six").device
    assert lab.host.sysctl(f"ipv6/conf/{bridge}/accept_ra") == "0"


def test_a_restart_takes_its_names_from_what_the_kernel_has_not_taken_down_yet(lab: Lab) -> None:
    guest = lab.guest()
    guest.end()  # its namespace stays, for ``guest`` has it open
    again = Namespace.make()
    net.attach(guest.plan.core, again.fd)
    with lab.oracle(again) as oracle:
        assert len(oracle.get_links(ifname="eth0")) == 1
    with lab.oracle(guest) as oracle:
        assert not oracle.get_links(ifname="eth0")
    again.close()


def test_several_networks_have_one_default_route(lab: Lab) -> None:
    lab.networks.create("inner", internal=True)
    lab.networks.create("second")
    guest = lab.guest("inner", more=["second", "bridge"])
    with lab.oracle(guest) as oracle:
        (route,) = oracle.get_default_routes(family=socket.AF_INET)
    assert route.get_attr("RTA_GATEWAY") == lab.networks.get("second").subnets[0].gateway
    assert [endpoint.name for endpoint in guest.plan.endpoints] == ["eth0", "eth1", "eth2"]


def test_the_host_port_is_a_quiet_port_of_the_bridge(lab: Lab) -> None:
    guest = lab.guest()
    with lab.oracle(lab.host) as oracle:
        (port,) = oracle.get_links(ifname=guest.plan.endpoints[0].host_name)
        (bridge,) = oracle.get_links(ifname="fastdock0")
        assert port.get_attr("IFLA_MASTER") == bridge["index"]
        assert not list(oracle.get_addr(index=port["index"])), "no link-local address"


def test_a_new_container_is_reached_at_once(lab: Lab) -> None:
    """The bridge forwards to its port when attach() returns, also where it saw the address at another port before."""
    asking = lab.guest()
    for _ in range(20):
        guest = lab.guest()
        port = guest.plan.endpoints[0].host_name
        with lab.oracle(lab.host) as oracle:
            (link,) = oracle.link("get", ifname=port)
            assert link.get("state") == "up"
            assert (
                link.get_nested("IFLA_LINKINFO", "IFLA_INFO_SLAVE_DATA").get("IFLA_BRPORT_STATE") == 3
            )  # forwarding
        fdb = lab.host.run("bridge", "fdb", "show", "dev", port)
        assert f"{guest.plan.endpoints[0].mac} " in fdb
        assert pings(asking, guest.address())
        guest.close()


def test_the_bridge_keeps_its_address_when_containers_come_and_go(lab: Lab) -> None:
    first = lab.guest()
    with lab.oracle(lab.host) as oracle:
        before = oracle.get_links(ifname="fastdock0")[0].get_attr("IFLA_ADDRESS")
        lab.guest()
        first.networks.detach(first.id, running=True)
        assert oracle.get_links(ifname="fastdock0")[0].get_attr("IFLA_ADDRESS") == before


def _start_relay(lab: Lab) -> None:
    """With the first published port; it stays for a while, and so does its port in the firewall."""
    lab.networks.detach(lab.guest(publish=["8081:80"]).id, running=True)


def test_detach_leaves_nothing(lab: Lab) -> None:
    _start_relay(lab)
    before = lab.nft("list", "ruleset"), _links(lab)
    guest = lab.guest(publish=["8080:80"], egress="10.0.0.0/8,example.org")
    assert lab.nft("list", "ruleset") != before[0]
    lab.networks.detach(guest.id, running=True)
    assert (lab.nft("list", "ruleset"), _links(lab)) == before
    lab.networks.detach(guest.id, running=True)
    assert lab.guest().address() == guest.address(), "its address is free again"


def test_a_failed_attach_leaves_nothing(lab: Lab) -> None:
    _start_relay(lab)
    guest = lab.guest()
    before = lab.nft("list", "ruleset"), _links(lab)
    plan = lab.networks.plan("f" * 64, NetworkOptions(publish=["80"]))
    assert plan.core is not None
    with pytest.raises(KernelError) as caught:  # there is an eth0 already
        net.attach(plan.core, guest.fd)
    assert caught.value.errno == errno.EEXIST
    assert "create the network device" in str(caught.value)
    assert (lab.nft("list", "ruleset"), _links(lab)) == before
    lab.networks.detach("f" * 64)


def test_the_callers_thread_stays_in_its_namespace(lab: Lab) -> None:
    def links() -> set[str]:
        return {name for _, name in socket.if_nameindex()}

    before = links()
    guest = lab.guest()
    assert links() - before == {"fastdock0", guest.plan.endpoints[0].host_name}


def test_no_isolation_between_ports_unless_icc_is_off(lab: Lab) -> None:
    lab.networks.create("quiet", options={"com.docker.network.bridge.enable_icc": "false"})
    for network, isolated in (("quiet", 1), ("bridge", 0)):
        guest = lab.guest(network)
        with lab.oracle(lab.host) as oracle:
            (port,) = oracle.get_links(ifname=guest.plan.endpoints[0].host_name)
        data = port.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_SLAVE_DATA")
        assert data.get_attr("IFLA_BRPORT_ISOLATED") == isolated


def test_fixed_addresses(lab: Lab) -> None:
    lab.networks.create("mine", subnets=["10.9.0.0/24", "fd00:9::/64"], ip_ranges=["10.9.0.128/25"])
    fixed = lab.guest("mine", ip="10.9.0.7", ip6="fd00:9::7", mac="02:00:00:00:00:77", name="fixed")
    assert fixed.plan.endpoints[0].addresses == ("10.9.0.7/24", "fd00:9::7/64")
    assert "02:00:00:00:00:77" in fixed.run("ip", "link", "show", "eth0")
    assert lab.guest("mine").address() == "10.9.0.128"
    with pytest.raises(Conflict, match="in use by the container fixed"):
        lab.guest("mine", ip="10.9.0.7")


def test_macvlan_is_a_machine_of_its_own_on_the_hosts_network(lab: Lab) -> None:
    lab.networks.create(
        "lan", driver="macvlan", subnets=["192.0.2.0/24"], gateways=["192.0.2.1"], options={"parent": "eth0"}
    )
    guest = lab.guest("lan", ip="192.0.2.50")
    with lab.oracle(guest) as oracle:
        (eth0,) = oracle.get_links(ifname="eth0")
        assert eth0.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_KIND") == "macvlan"
    assert pings(guest, lab.OUTSIDE4)


def test_two_roots_share_a_machine(lab: Lab) -> None:
    from fastdock.network import Networks
    from fastdock.store.database import Database

    other = Networks(
        Database(str(lab.directory / "other.db")), str(lab.directory / "other"), root="/srv/other"
    )
    first = lab.guest()
    options = NetworkOptions(attachments=[Attachment("bridge")])
    plan = other.plan("e" * 64, options)
    assert plan.endpoints[0].addresses != first.plan.endpoints[0].addresses
    other.repair()
    assert first.plan.endpoints[0].host_name in lab.nft("list", "table", "bridge", "fastdock")
    other.detach("e" * 64)


def test_a_container_that_ended_is_gone_with_its_namespace(lab: Lab) -> None:
    guest = lab.guest()
    port = guest.plan.endpoints[0].host_name
    guest.close()
    while port in _links(lab):  # the kernel removes it in the background
        os.sched_yield()
    assert port not in lab.nft("list", "ruleset")
    lab.guests.clear()


def test_a_namespace_that_somebody_holds_is_mute_until_it_is_repaired(lab: Lab) -> None:
    guest, friend = lab.guest(), lab.guest()
    guest.networks.detach(guest.id)
    assert not pings(guest, friend.address())
    lab.networks.repair()
    assert guest.plan.endpoints[0].host_name not in _links(lab)
