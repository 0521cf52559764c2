"""``network create`` with all of Docker's options, and what a container on such a network sees."""

from __future__ import annotations

import json
from socket import SOCK_STREAM
from typing import Any

import pytest
from kept import container
from netlab import Lab, ask
from test_containers_network import net_engine, serving
from test_network_commands import app, command, says

import fastdock
from fastdock import Conflict, Engine, KernelError, NotFound, SpecError

pytestmark = pytest.mark.kernel
__all__ = ["app", "net_engine"]

BRIDGE = "com.docker.network.bridge"


def inspected(engine: Engine, name: str) -> dict[str, Any]:
    (found,) = json.loads(command(engine, "network", "inspect", name))
    return dict(found)


def addresses(made: fastdock.Container) -> str:
    return says(made, "ip -o addr show scope global")


def test_addresses_of_somebody_else(lab: Lab, net_engine: Engine) -> None:
    net_engine.networks.create(
        "aux", subnets=["10.80.0.0/29", "fd80::/64"], aux_addresses={"router": "10.80.0.2", "six": "fd80::2"}
    )
    with container(net_engine, network="aux") as made:
        assert "10.80.0.3/29" in addresses(made)
        assert "fd80::3/64" in addresses(made)
        with pytest.raises(Conflict, match="reserved for router"):
            net_engine.run("busybox", ["true"], network="aux", ip="10.80.0.2")
    (v4, v6) = inspected(net_engine, "aux")["IPAM"]["Config"]
    assert v4["AuxiliaryAddresses"] == {"router": "10.80.0.2"}
    assert v6["AuxiliaryAddresses"] == {"six": "fd80::2"}
    net_engine.networks.remove("aux")


@pytest.mark.parametrize("words", [
    "--aux-address a=10.75.0.1 --subnet 10.74.0.0/24", "--aux-address a=10.74.0.1 --subnet 10.74.0.0/24",
    "--aux-address a=x --subnet 10.74.0.0/24", "--subnet 10.74.0.0/24 --gateway 10.74.0.0",
    "--aux-address a=10.74.0.9 --aux-address b=10.74.0.9 --subnet 10.74.0.0/24",
    "--subnet 10.74.0.0/24 --gateway 10.74.0.255", "--subnet 10.74.0.0/24 --gateway 10.74.0.1 --gateway 10.74.0.2",
    "--ipam-driver null", "--ipam-driver none-such", "--ipv4=false", "--ipv4=false --ipv6 --subnet 10.74.0.0/24",
    "--scope swarm", "--scope global", "--ingress", "--label =x", f"-o {BRIDGE}.host_binding_ipv4=x",
    "-o com.docker.network.container_iface_prefix=a/b", "--config-from none-such", "--config-from bridge",
])  # fmt: skip
def test_what_is_refused(lab: Lab, net_engine: Engine, words: str) -> None:
    assert command(net_engine, "network", "create", *words.split(), "x", code=1).startswith("Error: ")
    with pytest.raises(NotFound):
        net_engine.networks.get("x")


def test_the_name_default_is_taken(lab: Lab, net_engine: Engine) -> None:
    """``--network default`` is the network bridge: nobody could join another of that name."""
    command(net_engine, "network", "create", "default", code=1)


def test_only_ipv6(lab: Lab, net_engine: Engine) -> None:
    command(net_engine, "network", "create", "--ipv4=false", "--ipv6", "six")
    with serving(net_engine, network="six", name="web", publish=["8080:80"]) as made:
        assert "inet " not in addresses(made)
        assert "inet6 fd" in addresses(made)
        with container(net_engine, network="six") as client:
            assert says(client, "nc web 80 < /dev/null") == "hello\n"
        assert ask(lab.outside, SOCK_STREAM, lab.HOST6, 8080) == "hello\n"
    assert inspected(net_engine, "six")["EnableIPv4"] is False
    net_engine.networks.remove("six")


def test_networks_like_a_configuration(lab: Lab, net_engine: Engine) -> None:
    options = {"com.docker.network.driver.mtu": "1400"}
    words = (
        "--subnet",
        "10.60.0.0/24",
        "--aux-address",
        "a=10.60.0.2",
        "-o",
        "com.docker.network.driver.mtu=1400",
    )
    command(net_engine, "network", "create", "--config-only", *words, "like")
    command(net_engine, "network", "create", "--config-from", "like", "--label", "a=b", "made")
    found = inspected(net_engine, "made")
    assert found["ConfigFrom"] == {"Network": "like"}
    assert found["Options"] == options
    assert found["Labels"] == {"a": "b"}
    assert found["IPAM"]["Config"][0]["Subnet"] == "10.60.0.0/24"
    assert inspected(net_engine, "like")["ConfigOnly"] is True
    with container(net_engine, network="made") as made:
        assert "10.60.0.3/24" in addresses(made)
        assert says(made, "cat /sys/class/net/eth0/mtu") == "1400\n"
    with pytest.raises(SpecError, match="configuration"):
        net_engine.run("busybox", ["true"], network="like")
    with pytest.raises(Conflict, match="in use by made"):
        net_engine.networks.remove("like")
    with pytest.raises(SpecError, match="give none"):
        net_engine.networks.create("x", config_from="like", subnets=["10.61.0.0/24"])
    assert [gone.name for gone in net_engine.networks.prune()] == ["made"]
    net_engine.networks.remove("like")


def test_names_of_devices(lab: Lab, net_engine: Engine, app: str) -> None:
    net_engine.networks.create("net", options={"com.docker.network.container_iface_prefix": "net"})
    named = f"name={app},driver-opt=com.docker.network.endpoint.ifname=foo0"
    with container(net_engine, network=["bridge", "net", named]) as made:
        assert says(made, "cd /sys/class/net; echo *") == "eth0 foo0 lo net0\n"
        made.disconnect(app)
        made.connect(app, driver_opts={"com.docker.network.endpoint.ifname": "bar0"})
        made.restart(0)
        assert says(made, "cd /sys/class/net; echo *") == "bar0 eth0 lo net0\n"
    with pytest.raises(SpecError, match="lo"):
        net_engine.run(
            "busybox", ["true"], network=f"name={app},driver-opt=com.docker.network.endpoint.ifname=lo"
        )
    net_engine.networks.remove("net")


def test_sysctls_of_devices(lab: Lab, net_engine: Engine, app: str) -> None:
    """They are written when the device is there: of ``--sysctl``, and of a network's driver-opt."""
    look = "cat /proc/sys/net/ipv4/conf/eth0/rp_filter /proc/sys/net/ipv4/conf/eth1/forwarding"
    option = "driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.forwarding=1"
    given = {"network": ["bridge", f"name={app},{option}"], "sysctls": {"net.ipv4.conf.eth0.rp_filter": "2"}}
    with container(net_engine, **given) as made:
        assert says(made, look) == "2\n1\n"
    done = net_engine.run("busybox", ["sh", "-c", look], capture_output=True, text=True, **given)
    assert done.stdout == "2\n1\n"
    with pytest.raises(SpecError, match="no device eth7"):
        net_engine.run("busybox", ["true"], network="bridge", sysctls={"net.ipv4.conf.eth7.rp_filter": "2"})
    for bad in ("net.ipv4.conf.eth0.forwarding=1", "kernel.a.b.IFNAME.c=1", "net.ipv4...IFNAME.x=1"):
        wrong = f"name={app},driver-opt=com.docker.network.endpoint.sysctls={bad}"
        with pytest.raises(SpecError):
            net_engine.run("busybox", ["true"], network=wrong)


def test_the_way_out_is_that_of_the_highest_priority(lab: Lab, net_engine: Engine, app: str) -> None:
    doors = {name: net_engine.networks.get(name).subnets[0].gateway for name in ("bridge", app)}
    with container(net_engine, network=["bridge", f"name={app},gw-priority=1"]) as made:
        assert f"default via {doors[app]}" in says(made, "ip route")
        made.disconnect(app)
        assert f"default via {doors['bridge']}" in says(made, "ip route")
        made.connect(app, gw_priority=2)
        made.restart(0)
        assert f"default via {doors[app]}" in says(made, "ip route")


def test_a_second_network_gives_the_other_way_out(lab: Lab, net_engine: Engine) -> None:
    """IPv4 by the first, IPv6 by the first that has it."""
    net_engine.networks.create("dual", ipv6=True)
    with container(net_engine, network=["bridge", "dual"]) as made:
        assert says(made, "ip route | grep -c default") == "1\n"
        assert "default via fd" in says(made, "ip -6 route")
        assert "dev eth0" in says(made, "ip route | grep default")
    net_engine.networks.remove("dual")


def test_ports_on_the_network_s_own_address(lab: Lab, net_engine: Engine) -> None:
    net_engine.networks.create("mine", options={f"{BRIDGE}.host_binding_ipv4": "127.0.0.1"})
    with serving(net_engine, network="mine", publish=["8080:80", f"{lab.HOST4}:8081:80"]) as made:
        ports = made.inspect()["NetworkSettings"]["Ports"]["80/tcp"]
        assert ports == [
            {"HostIp": "127.0.0.1", "HostPort": "8080"},
            {"HostIp": lab.HOST4, "HostPort": "8081"},
        ]
        assert ask(lab.host, SOCK_STREAM, "127.0.0.1", 8080) == "hello\n"
        assert ask(lab.outside, SOCK_STREAM, lab.HOST4, 8080) is None
        assert ask(lab.outside, SOCK_STREAM, lab.HOST4, 8081) == "hello\n"
    net_engine.networks.remove("mine")


def test_a_bridge_that_was_there_stays(lab: Lab, net_engine: Engine) -> None:
    lab.host.run("ip", "link", "add", "br-mine", "type", "bridge")
    option = {f"{BRIDGE}.name": "br-mine"}
    net_engine.networks.create("adopted", options=option)
    with pytest.raises(Conflict, match="adopted"):
        net_engine.networks.create("second", options=option)
    net_engine.networks.remove("adopted")
    assert "br-mine" in lab.host.run("ip", "link")
    lab.host.run("ip", "link", "del", "br-mine")


def test_macvlan_on_a_vlan(lab: Lab, net_engine: Engine) -> None:
    """``parent=eth0.10`` is made where it is not there, and goes with the network.  Some kernels have no 802.1Q."""
    lab.host.run("ip", "link", "add", "link", "eth0", "name", "probe", "type", "vlan", "id", "9", check=False)
    given: Any = {"driver": "macvlan", "subnets": ["10.90.0.0/24"], "options": {"parent": "eth0.10"}}
    if "probe" in lab.host.run("ip", "link"):
        lab.host.run("ip", "link", "set", "eth0", "up")
        net_engine.networks.create("vlan", **given)
        assert "vlan protocol 802.1Q id 10" in lab.host.run("ip", "-d", "link", "show", "eth0.10")
        lab.outside.run("ip", "link", "add", "link", "eth0", "name", "tagged", "type", "vlan", "id", "10")
        lab.outside.run("sh", "-ec", "ip addr add 10.90.0.200/24 dev tagged; ip link set tagged up")
        with container(net_engine, network="vlan") as made:
            assert "1 packets received" in says(made, "ping -c1 -W2 10.90.0.200")
        net_engine.networks.remove("vlan")
        assert "eth0.10" not in lab.host.run("ip", "link")
    else:
        with pytest.raises(KernelError, match=r"eth0\.10"):
            net_engine.networks.create("vlan", **given)
    for bad in ("eth0.0", "eth0.4095", "none.10", "none"):
        with pytest.raises(KernelError):
            net_engine.networks.create("x", driver="macvlan", options={"parent": bad})


def test_listing_as_docker_does(lab: Lab, net_engine: Engine) -> None:
    command(net_engine, "network", "create", "--label", "a=b", "--attachable", "x")
    assert (
        command(net_engine, "network", "list", "--filter", "label=a", "--format", '{{.Label "a"}}') == "b\n"
    )
    created = command(net_engine, "network", "ls", "--filter", "name=host", "--format", "{{.CreatedAt}}")
    assert created.endswith(" +0000 UTC\n")
    assert inspected(net_engine, "x")["Attachable"] is True
    assert command(net_engine, "network", "remove", "x") == "x\n"
    with container(net_engine, name="kept"):
        assert "is a container's from its creation" in command(
            net_engine, "network", "connect", "host", "kept", code=1
        )
