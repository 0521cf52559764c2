"""Which of its networks a running container leaves by, and is reached by, when it joins and leaves some."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, SOCK_STREAM

import pytest
from netlab import Guest, Lab, ask, pings, server

pytestmark = pytest.mark.kernel


def _door(guest: Guest, version: int = 4) -> str:
    """The device of its default route."""
    routes = guest.run("ip", f"-{version}", "route", "show", "default").splitlines()
    assert len(routes) == 1, routes
    words = routes[0].split()
    return words[words.index("dev") + 1]


def test_connect_with_a_higher_priority_leads_out_at_once(lab: Lab) -> None:
    """As docker 28 does; published ports go the same way, since answers do."""
    guest = lab.guest(publish=["8080:80"])
    lab.networks.create("app")
    lab.networks.create("third")
    with server(guest, AF_INET, SOCK_STREAM, 80):
        joined = lab.networks.connect("app", guest.name, gw_priority=1)
        assert joined.gateways == (lab.networks.get("app").subnets[0].gateway,)
        assert _door(guest) == "eth1"
        assert pings(guest, lab.OUTSIDE4)
        assert ask(lab.outside, SOCK_STREAM, lab.HOST4, 8080) == lab.OUTSIDE4
        document = lab.networks.document(guest.id)
        assert document is not None
        assert {port.container for port in document.ports} == {joined.plain_addresses[0]}
        assert [bool(endpoint.gateways) for endpoint in document.endpoints] == [False, True]
        lab.networks.connect("third", guest.name, gw_priority=1)
        assert _door(guest) == "eth1", "of several, the first"
        before = sorted(lab.nft("list", "ruleset").split())
        lab.networks.repair()
        assert sorted(lab.nft("list", "ruleset").split()) == before
        lab.networks.disconnect("app", guest.name)
        assert _door(guest) == "eth2", "the next by priority"
        assert ask(lab.outside, SOCK_STREAM, lab.HOST4, 8080) == lab.OUTSIDE4
        lab.networks.disconnect("third", guest.name)
        assert _door(guest) == "eth0"
        assert pings(guest, lab.OUTSIDE4)
        assert ask(lab.outside, SOCK_STREAM, lab.HOST4, 8080) == lab.OUTSIDE4
    lab.networks.detach(guest.id)
    assert guest.address() not in lab.nft("list", "ruleset")


def test_connect_without_a_priority_changes_no_route(lab: Lab) -> None:
    guest = lab.guest()
    lab.networks.create("app")
    lab.networks.connect("app", guest.name)
    assert _door(guest) == "eth0"
    lab.networks.disconnect("app", guest.name)
    lab.networks.connect("app", guest.name, gw_priority=-1)
    assert _door(guest) == "eth0"


def test_an_internal_network_leads_nowhere(lab: Lab) -> None:
    guest = lab.guest()
    lab.networks.create("inner", internal=True)
    lab.networks.connect("inner", guest.name, gw_priority=5)
    assert _door(guest) == "eth0"
    assert pings(guest, lab.OUTSIDE4)


def test_each_ip_version_has_its_own_way(lab: Lab) -> None:
    """A network of IPv4 alone takes only that; the port on IPv6 stays where it was."""
    lab.networks.create("dual", ipv6=True)
    lab.networks.create("app")
    guest = lab.guest("dual", publish=["8080:80"])
    lab.networks.connect("app", guest.name, gw_priority=1)
    assert (_door(guest), _door(guest, 6)) == ("eth1", "eth0")
    for family, host, asker in (
        (AF_INET, lab.HOST4, lab.OUTSIDE4),
        (AF_INET6, lab.HOST6, lab.OUTSIDE6),
    ):
        with server(guest, family, SOCK_STREAM, 80):
            assert ask(lab.outside, SOCK_STREAM, host, 8080) == asker
    lab.networks.disconnect("dual", guest.name)
    assert _door(guest) == "eth1"
    assert "default" not in guest.run("ip", "-6", "route")
    with server(guest, AF_INET, SOCK_STREAM, 80):
        assert ask(lab.outside, SOCK_STREAM, lab.HOST4, 8080) == lab.OUTSIDE4
