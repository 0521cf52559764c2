"""Two objects of one container, or a program and the command line: each acts on what the container is now."""

from __future__ import annotations

import threading

import pytest
from kept import SLEEP, container, shell, wait_until
from netlab import Lab
from test_containers_network import net_engine
from test_network_commands import app, command, reaches, says

from fastdock import ContainerNotFound, Engine, NotFound

pytestmark = pytest.mark.kernel
__all__ = ["app", "net_engine"]


def networks_of(engine: Engine, name: str) -> set[str]:
    return {*engine.containers.get(name).inspect()["NetworkSettings"]["Networks"]}


def test_restart_keeps_what_the_command_line_joined(lab: Lab, net_engine: Engine, app: str) -> None:
    with container(net_engine, name="web") as web, container(net_engine, network=app) as client:
        command(net_engine, "network", "connect", "--alias", "db", app, "web")
        assert {*web.inspect()["NetworkSettings"]["Networks"]} == {"bridge", app}
        web.restart(0)
        assert networks_of(net_engine, "web") == {"bridge", app}
        assert reaches(client, "db")
        command(net_engine, "network", "disconnect", "bridge", "web")
        web.stop(0)
        web.start()
        assert networks_of(net_engine, "web") == {app}
        with pytest.raises(NotFound):
            web.disconnect("bridge")


def test_network_joined_between_creation_and_start(lab: Lab, net_engine: Engine, app: str) -> None:
    """The start that follows the creation has read the options already."""
    made = net_engine.containers.create("busybox", SLEEP, name="web")
    net_engine.containers.get("web").connect(app)
    made.start()
    assert networks_of(net_engine, "web") == {"bridge", app}


def test_first_network_of_a_container_that_had_none_left(lab: Lab, net_engine: Engine, app: str) -> None:
    with container(net_engine, name="web", network=app) as web:
        web.disconnect(app)
        command(net_engine, "network", "connect", app, "web")
        web.restart(0)
        assert networks_of(net_engine, "web") == {app}
    assert not net_engine.networks.endpoints(net_engine.networks.get(app))


def test_name_by_another(lab: Lab, net_engine: Engine, app: str) -> None:
    with container(net_engine, name="old", network=app) as made, container(net_engine, network=app) as client:
        command(net_engine, "rename", "old", "new")
        assert made.name == "new"
        assert made.inspect()["Name"] == "/new"
        assert repr(made).endswith(" new>")
        made.restart(0)
        assert reaches(client, "new")
        assert not reaches(client, "old")
        made.rename("old")
        assert reaches(client, "old")


def test_limits_and_restart_policy_by_another(lab: Lab, net_engine: Engine) -> None:
    with container(net_engine, name="web") as web:
        command(net_engine, "update", "--memory", "64m", "--memory-swap", "64m", "web")
        web.update(pids=50)
        command(net_engine, "update", "--restart", "on-failure:3", "web")
        web.update(cpu_shares=100)
        web.restart(0)
        config = web.inspect()["HostConfig"]
        assert config["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
        assert (config["Memory"], config["PidsLimit"], config["CpuShares"]) == (64 << 20, 50, 100)
        assert web.stats()["pids_limit"] == 50


def test_limits_while_it_joins_networks(lab: Lab, net_engine: Engine, app: str) -> None:
    """Both change the same options: neither takes the other's away."""
    with container(net_engine, name="web") as web:
        other = net_engine.containers.get("web")

        def limit() -> None:
            for number in range(100, 110):
                other.update(cpu_shares=number)

        limiting = threading.Thread(target=limit)
        limiting.start()
        for _ in range(5):
            web.connect(app)
            web.disconnect(app)
        web.connect(app)
        limiting.join()
        web.restart(0)
        assert networks_of(net_engine, "web") == {"bridge", app}
        assert web.inspect()["HostConfig"]["CpuShares"] == 109


def test_removed_by_another(lab: Lab, net_engine: Engine) -> None:
    with container(net_engine, name="web") as web:
        command(net_engine, "rename", "web", "gone")
        assert web.name == "gone"
        command(net_engine, "rm", "-f", "gone")
        assert (web.name, web.record.command) == ("gone", SLEEP)  # as it was last
        for act in (web.start, web.restart, web.inspect, lambda: web.rename("back"), web.remove):
            with pytest.raises(ContainerNotFound, match="gone"):
                act()


def test_joined_networks_outlive_a_restart_by_the_monitor(lab: Lab, net_engine: Engine, app: str) -> None:
    script = shell("[ -p /end ] || mkfifo /end; read end < /end; exit 1")
    with (
        container(net_engine, script, name="web", restart="always") as web,
        container(net_engine, network=app) as client,
    ):
        web.connect(app, aliases=["db"])
        web.disconnect("bridge")
        web.rename("shop")
        first = web.pid
        says(web, "echo > /end")
        wait_until(web, lambda: web.state.running and web.state.pid not in (0, first))
        assert reaches(client, "db")
        assert reaches(client, "shop")
        links = says(web, "ip -o link")
        assert "eth1" in links
        assert "eth0" not in links
