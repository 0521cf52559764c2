"""Containers with networks, started by the engine and by ``fastdock run``."""

from __future__ import annotations

import io
import os
import re
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from socket import SOCK_STREAM
from typing import Any

import pytest
from netlab import Lab, ask

import fastdock
from fastdock import PIPE, Engine
from fastdock._errors import (
    Conflict,
    ContainerNotFound,
    KernelError,
    NotFound,
    SpecError,
)
from fastdock.endpoint import Endpoint
from support import busybox_tar

pytestmark = pytest.mark.kernel


@pytest.fixture
def net_engine(lab: Lab, tmp_path: Path) -> Iterator[Engine]:
    """An engine in the lab's host."""
    with fastdock.Engine(tmp_path / "root") as engine:
        engine.images.import_tar(io.BytesIO(busybox_tar()), "busybox")
        yield engine


def shell(engine: Engine, script: str, **options: object) -> str:
    done = engine.run("busybox", ["sh", "-c", script], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def test_a_container_on_the_default_network(lab: Lab, net_engine: Engine) -> None:
    script = "cat /etc/hostname /etc/hosts; hostname; cat /sys/class/net/eth0/address; ping -c1 -W2 192.0.2.1"
    out = shell(net_engine, script, network="bridge", hostname="box")
    assert out.startswith("box\n127.0.0.1\tlocalhost\n")
    assert "172.17.0.2\tbox\nbox\n02:42:ac:11:00:02\n" in out
    assert "1 packets received" in out
    assert net_engine.networks.collect() == 0
    assert net_engine.networks.endpoints(net_engine.networks.get("bridge")) == {}


def test_a_published_port(lab: Lab, net_engine: Engine) -> None:
    serve = "while true; do echo hello | nc -l -p 80; done"
    with net_engine.Popen(
        "busybox", ["sh", "-c", f"echo; {serve}"], network="bridge", publish=["8080:80"], stdout=PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        answer = None
        while not answer:  # nc listens again and again
            answer = ask(lab.outside, SOCK_STREAM, lab.HOST4, 8080)
        assert answer == "hello\n"
        with pytest.raises(Conflict, match="8080"):
            net_engine.run("busybox", ["true"], network="bridge", publish=["8080:80"])
        process.kill()
    assert ask(lab.outside, SOCK_STREAM, lab.HOST4, 8080, timeout=0.3) is None
    net_engine.run("busybox", ["true"], network="bridge", publish=["8080:80"])


def test_names_on_a_network(lab: Lab, net_engine: Engine) -> None:
    net_engine.networks.create("app")
    with net_engine.Popen(
        "busybox",
        ["sh", "-c", "echo; exec sleep 100"],
        network="app",
        name="web",
        network_alias=["www"],
        stdout=PIPE,
    ) as web:
        assert web.stdout is not None
        web.stdout.readline()
        for name in ("web", "www", web.id[:12]):
            assert "1 packets received" in shell(net_engine, f"ping -c1 -W2 {name}", network="app")
        assert "nameserver 127.0.0.11" in shell(net_engine, "cat /etc/resolv.conf", network="app")
        web.kill()


def test_the_network_of_another_container(lab: Lab, net_engine: Engine) -> None:
    with net_engine.Popen(
        "busybox", ["sh", "-c", "echo; exec sleep 100"], network="bridge", name="first", stdout=PIPE
    ) as first:
        assert first.stdout is not None
        first.stdout.readline()
        inside = shell(net_engine, "readlink /proc/self/ns/net", network="container:first")
        assert inside.strip() == os.readlink(f"/proc/{first.pid}/ns/net")
        first.kill()
    with pytest.raises(ContainerNotFound):
        net_engine.run("busybox", ["true"], network="container:first")


def test_two_networks(lab: Lab, net_engine: Engine) -> None:
    net_engine.networks.create("one")
    net_engine.networks.create("two")
    out = shell(net_engine, "ls /sys/class/net", network=["one", "two"])
    assert out.split() == ["eth0", "eth1", "lo"]


def test_egress(lab: Lab, net_engine: Engine) -> None:
    ping = "ping -c1 -W1 192.0.2.1"
    assert (
        net_engine.run("busybox", ["sh", "-c", ping], network="bridge", egress="deny", stdout=PIPE).returncode
        == 1
    )
    assert "1 packets received" in shell(net_engine, ping, network="bridge", egress="192.0.2.0/24")


def test_what_fails_leaves_nothing(lab: Lab, net_engine: Engine) -> None:
    for kind, options in (
        (NotFound, {"network": "none-such"}),
        (SpecError, {"network": "bridge", "publish": ["x"]}),
        (SpecError, {"network": ["bridge", "host"]}),
    ):
        with pytest.raises(kind):
            net_engine.run("busybox", ["true"], **options)
    with pytest.raises(FileNotFoundError):
        net_engine.run("busybox", ["no-such-program"], network="bridge", publish=["8080:80"])
    assert net_engine.networks.endpoints(net_engine.networks.get("bridge")) == {}
    assert list(Path(net_engine.run_directory, "networks").iterdir()) == []


def test_a_flush_between_plan_and_start(lab: Lab, net_engine: Engine) -> None:
    shell(net_engine, "true", network="bridge")
    lab.nft("flush", "ruleset")
    assert "1 packets received" in shell(net_engine, "ping -c1 -W2 192.0.2.1", network="bridge")


def test_the_plan_is_kept_though_each_start_writes_to_the_database(lab: Lab, net_engine: Engine) -> None:
    for _ in range(2):
        net_engine.run("busybox", ["true"], network="bridge", publish=["80"])
    assert net_engine._recent.stamp == net_engine.store.database.stamp()
    assert len(net_engine._recent.plans) == 1


def test_many_threads_at_once_and_one_that_fails(lab: Lab, net_engine: Engine) -> None:
    """They share transactions, but not what becomes of them."""
    net_engine.networks.ensure_default()

    def run(number: int) -> str:
        publish = ["8080:80"] if number in (3, 9) else ["80"]
        try:
            with net_engine.Popen(
                "busybox", ["cat"], network="bridge", publish=publish, stdin=PIPE
            ) as started:
                document = net_engine.networks.document(started.id)
                assert document is not None
                barrier.wait()
                return document.endpoints[0].addresses[0]
        except Conflict as error:
            barrier.wait()
            return str(error)

    barrier = threading.Barrier(16)
    with ThreadPoolExecutor(16) as pool:
        said = list(pool.map(run, range(16)))
    failed = [text for text in said if "port 8080/tcp is in use by the container" in text]
    assert len(failed) == 1
    assert len(set(said) - {*failed}) == 15
    assert net_engine.networks.endpoints(net_engine.networks.get("bridge")) == {}


def test_the_command_line(lab: Lab, net_engine: Engine) -> None:
    def fastdock_(*arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "fastdock", "--root", net_engine.root, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    network_id = fastdock_("network", "create", "--subnet", "10.4.0.0/24", "--label", "a=b", "app").strip()
    assert re.fullmatch("[0-9a-f]{64}", network_id)
    listed = fastdock_("network", "ls")
    assert [line.split()[1:] for line in listed.splitlines()[1:]] == [
        ["app", "bridge", "local"],
        ["bridge", "bridge", "local"],
        ["host", "host", "local"],
        ["none", "null", "local"],
    ]
    assert fastdock_("network", "ls", "-q", "--filter", "label=a").strip() == network_id[:12]
    assert (
        fastdock_("network", "inspect", "app", "-f", "{{(index .IPAM.Config 0).Subnet}}") == "10.4.0.0/24\n"
    )
    out = fastdock_("run", "--rm", "--network", "app", "--ip", "10.4.0.77", "busybox", "cat", "/etc/hosts")
    assert "10.4.0.77\t" in out
    assert "exists already" in fastdock_("network", "create", "app", code=1)
    fastdock_("network", "repair")
    assert fastdock_("network", "rm", "app") == "app\n"
    assert "no such network" in fastdock_("network", "rm", "app", code=1)


def test_the_host_s_network_comes_with_the_host_s_names(lab: Lab, net_engine: Engine) -> None:
    script = "cat /etc/resolv.conf; echo; cat /etc/hosts"
    resolvers, names = shell(net_engine, script, network="host", add_host=["db:10.1.2.3"]).split("\n\n", 1)
    wanted = [
        line for line in Path("/etc/resolv.conf").read_text().splitlines() if line.startswith("nameserver")
    ]
    assert [line for line in resolvers.splitlines() if line.startswith("nameserver")] == wanted
    assert names.startswith("127.0.0.1\tlocalhost\n::1\t")  # as Docker: its own, where something is added
    assert (
        shell(net_engine, "cat /etc/hosts", network="host", dns=["192.0.2.53"])
        == Path("/etc/hosts").read_text()
    )
    assert "10.1.2.3\tdb\n" in names


def test_without_a_network_there_are_names_too(lab: Lab, net_engine: Engine) -> None:
    script = "cat /etc/hosts /etc/hostname"
    assert "10.1.2.3\tdb\n" in shell(net_engine, script, add_host=["db:10.1.2.3"])
    made = net_engine.containers.create("busybox", ["sh", "-c", script], hostname="box")
    made.start()
    assert made.wait() == 0
    written = b"".join(entry.data for entry in made.logs())
    made.start()  # its files are written anew
    assert made.wait() == 0
    made.remove()
    assert written.startswith(b"127.0.0.1\tlocalhost\n")
    assert written.endswith(b"box\n")
    words = [sys.executable, "-m", "fastdock", "--root", net_engine.root, "run", "--rm", "--network", "none"]
    done = subprocess.run([*words, "busybox", "sh", "-c", script], capture_output=True, check=True)
    assert done.stdout.startswith(b"127.0.0.1\tlocalhost\n")
    assert os.listdir(f"{net_engine.run_directory}/names") == []


@pytest.mark.parametrize(("network", "directory"), [("bridge", "networks"), ("none", "names")])
def test_the_files_of_a_command_that_was_killed_are_removed(
    network: str, directory: str, lab: Lab, net_engine: Engine
) -> None:
    words = [sys.executable, "-m", "fastdock", "--root", net_engine.root, "run", "--rm", "--network", network]
    files = f"{net_engine.run_directory}/{directory}"

    def sweep() -> None:
        with Engine(net_engine.root) as engine:
            engine.networks.collect()

    with subprocess.Popen(
        [*words, "busybox", "sh", "-c", "echo; sleep 1000"], stdout=subprocess.PIPE
    ) as command:
        assert command.stdout is not None
        command.stdout.readline()
        sweep()
        assert os.listdir(files)
        command.kill()
        command.stdout.read()  # its container ends, too
    while os.listdir(files):
        sweep()


def test_why_a_process_ended_is_told_before_what_its_network_met(
    lab: Lab, net_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = Endpoint.created

    def when_it_is_gone(endpoint: Endpoint, pid: int) -> Any:
        plan = created(endpoint, pid)
        process = os.pidfd_open(pid)
        select.select([process], [], [])
        os.close(process)
        return plan

    monkeypatch.setattr(Endpoint, "created", when_it_is_gone)
    with pytest.raises(KernelError, match="cannot find the user"):
        net_engine.run("busybox", ["true"], user="nobody-here", network="bridge")


@pytest.mark.parametrize("network", ["bridge", "none", "host"])
def test_what_cannot_be_a_host_name_is_refused(network: str, net_engine: Engine) -> None:
    given: Any = {"network": network, "hostname": "a..b", "add_host": ["db:10.0.0.1"]}
    with pytest.raises(SpecError, match="cannot be a host name"):
        net_engine.run("busybox", ["true"], **given)
