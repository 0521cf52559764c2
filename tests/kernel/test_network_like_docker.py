"""Options of networks as Docker's command line has them: what is refused, and what a container then sees."""

from __future__ import annotations

import os

import pytest
from kept import container
from netlab import Lab
from test_containers_network import net_engine
from test_network_commands import app, command, reaches, says

from fastdock import Container, Engine, SpecError
from fastdock.network import Attachment, NetworkOptions

pytestmark = pytest.mark.kernel
__all__ = ["app", "net_engine"]


@pytest.mark.parametrize("mac", ["foo", "01:42:ac:11:00:99", "00:00:00:00:00:00"])
def test_a_bad_mac_address_takes_nothing(lab: Lab, net_engine: Engine, mac: str) -> None:
    """What was recorded with one made every later command of the state directory fail."""
    run = ("run", "--rm", "busybox", "true")
    assert "bad MAC address" in command(net_engine, "run", "--mac-address", mac, *run[1:], code=125)
    with pytest.raises(SpecError, match="bad MAC"):
        net_engine.networks.plan("c" * 64, NetworkOptions((Attachment("bridge", mac=mac),)))
    command(net_engine, *run)


def test_a_record_that_cannot_be_read_goes_with_its_owner(lab: Lab, net_engine: Engine) -> None:
    """Of an older version, which took bad MAC addresses."""
    plan = net_engine.networks.plan("c" * 64, NetworkOptions())
    assert plan.document is not None
    (endpoint,) = plan.document.endpoints
    bad = plan.document._replace(endpoints=(endpoint._replace(mac="foo"),)).to_json()
    net_engine.store.database.execute("UPDATE network_containers SET document = ?, owner = '1 0'", (bad,))
    assert net_engine.networks.collect() == 1
    command(net_engine, "run", "--rm", "busybox", "true")


def test_a_mac_address_in_other_spellings(lab: Lab, net_engine: Engine, app: str) -> None:
    with container(net_engine, network=app, mac_address="02-42-AC-11-00-99") as made:
        assert says(made, "cat /sys/class/net/eth0/address") == "02:42:ac:11:00:99\n"


def etc(made: Container) -> str:
    return says(made, "cat /etc/hostname /etc/hosts /etc/resolv.conf; hostname")


@pytest.mark.parametrize("network", ["bridge", "app", "none"])
def test_who_shares_a_network_shares_its_names(lab: Lab, net_engine: Engine, app: str, network: str) -> None:
    """Host name, /etc/hosts, /etc/hostname and /etc/resolv.conf: also with one that shares, and in a run."""
    with container(net_engine, network=network, name="owner", hostname="box") as owner:
        theirs = etc(owner)
        assert theirs.startswith("box\n127.0.0.1\tlocalhost\n")
        with (
            container(net_engine, network="container:owner", name="guest") as guest,
            container(net_engine, network="container:guest") as third,
        ):
            assert etc(guest) == etc(third) == theirs
            run = ("run", "--rm", "--network", f"container:{owner.id[:12]}", "busybox", "sh", "-c")
            script = "cat /etc/hostname /etc/hosts /etc/resolv.conf; hostname; echo $HOSTNAME"
            assert command(net_engine, *run, script) == f"{theirs}box\n"
            assert says(third, "readlink /proc/self/ns/net") == says(owner, "readlink /proc/self/ns/net")
            owner.stop(0)
            assert etc(guest) == theirs
    refused = command(
        net_engine, "run", "--rm", "--network", "container:none-such", "busybox", "true", code=125
    )
    assert "no such container: none-such" in refused
    command(net_engine, "run", "--rm", "--network", "container:", "busybox", "true", code=125)


def test_the_hosts_gateway_without_a_bridge(lab: Lab, net_engine: Engine) -> None:
    gateway = net_engine.networks.ensure_default().subnets[0].gateway
    for network in ("host", "none"):
        run = (
            "run",
            "--rm",
            "--network",
            network,
            "--add-host",
            "up:host-gateway",
            "busybox",
            "cat",
            "/etc/hosts",
        )
        assert f"{gateway}\tup\n" in command(net_engine, *run)


def test_leaving_the_network_of_a_fixed_address(lab: Lab, net_engine: Engine) -> None:
    """The address was that network's: the next first one gives another."""
    net_engine.networks.create("fixed", subnets=["10.80.0.0/24"])
    with container(net_engine, network="fixed", ip="10.80.0.9", mac_address="02:42:0a:50:00:99") as made:
        made.connect("bridge")
        made.disconnect("fixed")
        made.restart(0)
        assert set(made.inspect()["NetworkSettings"]["Networks"]) == {"bridge"}
    net_engine.networks.remove("fixed")


def test_ports_by_number(lab: Lab, net_engine: Engine) -> None:
    """In ``port``, ``ps`` and ``inspect``, as Docker's command line sorts them."""
    forms = ["8080:80/tcp", "published=53,target=53,protocol=udp", "127.0.0.1:8100:100"]
    with container(net_engine, publish=forms, expose=["9"], name="ports") as made:
        lines = command(net_engine, "port", "ports").splitlines()
        assert [line.partition(" ")[0] for line in lines] == ["53/udp"] * 2 + ["80/tcp"] * 2 + ["100/tcp"]
        shown = made.inspect()
        assert list(shown["NetworkSettings"]["Ports"]) == ["9/tcp", "53/udp", "80/tcp", "100/tcp"]
        assert set(shown["Config"]["ExposedPorts"]) == {"9/tcp", "53/udp", "80/tcp", "100/tcp"}
        assert command(net_engine, "ps", "--format", "{{.Ports}}").startswith("9/tcp, 0.0.0.0:53->53/udp, ")
    run = ("run", "--rm", "-p", "9000:80", "-p", "127.0.0.1:9000:81", "busybox", "true")
    assert "publishes it twice" in command(net_engine, *run, code=125)


def test_found_by_its_host_name(lab: Lab, net_engine: Engine, app: str) -> None:
    """As with Docker; and what inspect says of names and wanted addresses."""
    net_engine.networks.create("fixed", subnets=["10.80.0.0/24"])
    given = {"hostname": "box", "name": "named", "network_alias": ["other"]}
    with container(net_engine, network=app, **given) as made, container(net_engine, network=app) as client:
        assert all(reaches(client, name) for name in ("box", "named", "other", made.short_id, f"box.{app}"))
        made.connect("fixed", ip="10.80.0.9")
        networks = made.inspect()["NetworkSettings"]["Networks"]
        assert networks[app]["Aliases"] == ["other", made.short_id]
        assert networks[app]["DNSNames"] == ["named", "other", made.short_id, "box"]
        assert networks[app]["IPAMConfig"] is None
        assert networks["fixed"]["IPAMConfig"] == {"IPv4Address": "10.80.0.9"}
        key = made.inspect()["NetworkSettings"]["SandboxKey"]
        assert os.readlink(key) == says(made, "readlink /proc/self/ns/net").strip()
        with container(net_engine, network="fixed") as neighbour:
            assert reaches(neighbour, "box")
        made.stop(0)
        assert set(made.inspect()["NetworkSettings"]["Networks"]) == {app, "fixed"}
        made.disconnect("fixed")
    net_engine.networks.remove("fixed")
