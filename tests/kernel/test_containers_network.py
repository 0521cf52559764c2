"""Networks of kept containers: addresses, ports and names from start to end, through restarts and crashes."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import SOCK_STREAM
from typing import Any

import pytest
from kept import SLEEP, container, output_of, shell, wait_until
from netlab import Lab, ask

import fastdock
from fastdock import PIPE, Conflict, ContainerNotRunning, Engine
from support import busybox_tar

pytestmark = pytest.mark.kernel

SERVE = ["busybox", "nc", "-ll", "-p", "80", "-e", "echo", "hello"]


@pytest.fixture
def net_engine(lab: Lab, tmp_path: Path) -> Iterator[Engine]:
    """An engine in the lab's host; afterwards nobody has an address."""
    with fastdock.Engine(tmp_path / "root") as engine:
        engine.images.import_tar(io.BytesIO(busybox_tar()), "busybox")
        yield engine
        for made in engine.containers:
            made.remove(force=True)
        rows = engine.store.database.execute("SELECT count(*) FROM network_containers").fetchone()
        assert rows == (0,)
        directory = os.path.join(engine.run_directory, "networks")
        assert not os.path.isdir(directory) or os.listdir(directory) == []


def address_of(made: fastdock.Container) -> str:
    return str(made.inspect()["NetworkSettings"]["IPAddress"])


@contextmanager
def serving(engine: Engine, **options: Any) -> Iterator[fastdock.Container]:
    """A container that says hello on port 80."""
    with container(engine, SERVE, **options) as made:
        made.wait_for(port=80, timeout=60)
        yield made


def answers(lab: Lab, port: int) -> bool:
    return ask(lab.outside, SOCK_STREAM, lab.HOST4, port) == "hello\n"


def test_address_files_and_exec(lab: Lab, net_engine: Engine) -> None:
    with container(net_engine, network="bridge", hostname="box", name="addressed") as made:
        address = address_of(made)
        assert address.startswith("172.17.0.")
        script = "cat /etc/hostname; grep box /etc/hosts; ip -4 addr show dev eth0; ping -c1 -W2 192.0.2.1"
        done = made.exec(shell(script), stdout=PIPE, text=True)
        assert done.stdout.startswith(f"box\n{address}\tbox\n")
        assert f"inet {address}/16" in done.stdout
        assert "1 packets received" in done.stdout


def test_published_port_until_it_ends(lab: Lab, net_engine: Engine) -> None:
    with serving(net_engine, network="bridge", publish=["8080:80"]) as made:
        assert answers(lab, 8080)
        bindings = made.inspect()["NetworkSettings"]["Ports"]["80/tcp"]
        assert bindings == [{"HostIp": host, "HostPort": "8080"} for host in ("0.0.0.0", "::")]
        assert ask(lab.outside, SOCK_STREAM, lab.HOST6, 8080) == "hello\n"
        assert ask(lab.host, SOCK_STREAM, "::1", 8080) == "hello\n"
        other = net_engine.containers.create("busybox", SLEEP, network="bridge", publish=["8080:80"])
        with pytest.raises(Conflict, match="8080"):
            other.start()
        made.stop(0)
        assert address_of(made) == ""
        other.start()
        assert address_of(other) != ""
        with pytest.raises(Conflict, match="8080"):
            made.start()
        other.remove(force=True)
        made.start()
        made.wait_for(port=80, timeout=60)
        assert answers(lab, 8080)


def test_port_of_one_that_ended_by_itself(lab: Lab, net_engine: Engine) -> None:
    first = net_engine.containers.create("busybox", ["true"], network="bridge", publish=["8080:80"])
    connection = first.start(attach=2)
    assert connection is not None
    with connection:
        connection.wait_for_end()
    with serving(net_engine, network="bridge", publish=["8080:80"]):
        assert answers(lab, 8080)


def test_the_monitor_restarts_it_on_its_networks(lab: Lab, net_engine: Engine) -> None:
    script = "ip -4 addr show dev eth0 | grep -o 'inet [0-9.]*'; exit 1"
    with container(net_engine, shell(script), network="bridge", restart="on-failure:2") as made:
        wait_until(made, lambda: made.status == "exited")
        assert made.inspect()["State"]["Error"] == ""
        lines = output_of(made).splitlines()
        assert len(lines) == 3
        assert len(set(lines)) == 1


def test_address_is_kept_while_it_waits_for_its_restart(lab: Lab, net_engine: Engine) -> None:
    with container(net_engine, ["false"], network="bridge", restart="always") as made:
        wait_until(made, lambda: made.status == "restarting")
        assert net_engine.networks.collect() == 0
        with pytest.raises(ContainerNotRunning):
            net_engine.networks.connect("bridge", made.id)


def test_names(lab: Lab, net_engine: Engine) -> None:
    net_engine.networks.create("app")
    with container(net_engine, network="app", name="server"), container(net_engine, network="app") as client:
        done = client.exec(shell("ping -c1 -W2 server"), stdout=PIPE, text=True)
        assert done.returncode == 0, done.stdout
    net_engine.networks.remove("app")


def test_shared_with_another_container(lab: Lab, net_engine: Engine) -> None:
    """Its program, its execs and its health checks are in the other's network, never in the host's."""
    look = shell("readlink /proc/self/ns/net")
    with container(net_engine, network="bridge") as owner:
        theirs = owner.exec(look, stdout=PIPE).stdout
        options = {"network": f"container:{owner.id}", "health_cmd": look[2], "health_interval": 0.05}
        with container(net_engine, shell(f"{look[2]}; sleep 1000"), **options) as guest:
            guest.wait_until_healthy(60)
            assert output_of(guest) == theirs
            assert guest.exec(look, stdout=PIPE).stdout == theirs
            assert (guest.state.health or {})["log"][-1]["Output"].encode() == theirs
        assert theirs.decode().strip() != os.readlink("/proc/thread-self/ns/net")
        owner.stop(0)
        guest = net_engine.containers.create("busybox", SLEEP, network=f"container:{owner.id}")
        with pytest.raises(ContainerNotRunning):
            guest.start()


def test_monitor_killed(lab: Lab, net_engine: Engine) -> None:
    with serving(net_engine, network="bridge", publish=["8080:80"]) as made:
        pidfd = os.pidfd_open(made.state.monitor)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
        made.wait()
        assert made.state.exit_code == 137
        with serving(net_engine, network="bridge", publish=["8080:80"]):
            assert answers(lab, 8080)
