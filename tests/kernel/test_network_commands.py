"""Networks of kept containers as Docker's users change them: connect, disconnect, rename, restart, ports."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from socket import AF_INET, SOCK_STREAM

import pytest
from kept import SLEEP, container, shell
from netlab import Lab, ask, server
from test_containers_network import address_of, answers, net_engine, serving

import fastdock
from fastdock import PIPE, Conflict, Engine, FastdockError, NotFound, SpecError
from support import busybox_tar

pytestmark = pytest.mark.kernel
__all__ = ["net_engine"]


@pytest.fixture
def app(net_engine: Engine) -> Iterator[str]:
    net_engine.networks.create("app")
    yield "app"
    for made in net_engine.containers:
        made.remove(force=True)
    net_engine.networks.remove("app")


def says(made: fastdock.Container, script: str) -> str:
    done = made.exec(shell(script), stdout=PIPE, text=True)
    return str(done.stdout)


def reaches(made: fastdock.Container, name: str) -> bool:
    return made.exec(shell(f"ping -c1 -W2 {name}"), stdout=PIPE).returncode == 0


def command(engine: Engine, *words: str, code: int = 0) -> str:
    """The command line; in the lab's network, as its caller's thread is."""
    done = subprocess.run(
        [sys.executable, "-m", "fastdock", *words],
        env={**os.environ, "FASTDOCK_ROOT": engine.root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_bridge_is_the_default_network(lab: Lab, net_engine: Engine) -> None:
    with container(net_engine) as made:
        assert address_of(made).startswith("172.")
        assert made.inspect()["HostConfig"]["NetworkMode"] == "bridge"
    assert " eth0" in command(net_engine, "run", "--rm", "busybox", "ip", "-o", "-4", "addr")
    assert "eth0" not in command(
        net_engine, "run", "--rm", "--network", "none", "busybox", "ip", "-o", "addr"
    )
    # fastdock.run is the fast sandbox: no network unless it is asked for
    assert "eth0" not in net_engine.run("busybox", ["ip", "-o", "addr"], stdout=PIPE, text=True).stdout
    assert "eth0" in command(net_engine, "run", "--rm", "--network", "default", "busybox", "ip", "-o", "addr")


def test_without_the_right_to_make_a_bridge(lab: Lab, net_engine: Engine) -> None:
    program = "import os, sys; os.execvp(sys.executable, [sys.executable, '-m', 'fastdock', *sys.argv[1:]])"
    words = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", sys.executable, "-c", program]
    run = [*words, "run", "--rm"]
    environment = {**os.environ, "FASTDOCK_ROOT": net_engine.root}
    done = subprocess.run([*run, "busybox", "true"], env=environment, capture_output=True, text=True)
    assert done.returncode == 125
    assert "--network none" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_joining_while_it_runs(lab: Lab, net_engine: Engine, app: str) -> None:
    with container(net_engine, name="web") as web, container(net_engine, network=app) as client:
        assert "127.0.0.11" not in says(web, "cat /etc/resolv.conf")
        web.connect(app, aliases=["db"])
        assert reaches(client, "web")
        assert reaches(client, "db")
        assert reaches(web, client.name)
        networks = web.inspect()["NetworkSettings"]["Networks"]
        assert set(networks) == {"bridge", "app"}
        hosts = says(web, "cat /etc/hosts")
        assert f"{networks['app']['IPAddress']}\t{web.short_id}\n" in hosts
        assert f"{networks['bridge']['IPAddress']}\t{web.short_id}\n" in hosts
        assert "nameserver 127.0.0.11\n" in says(web, "cat /etc/resolv.conf")
        with pytest.raises(Conflict):
            web.connect(app)
        web.disconnect(app)
        assert not reaches(client, "db")
        assert networks["app"]["IPAddress"] not in says(web, "cat /etc/hosts")
        with pytest.raises(NotFound):
            web.disconnect(app)


def test_joining_outlives_a_restart(lab: Lab, net_engine: Engine, app: str) -> None:
    with container(net_engine, name="web") as web, container(net_engine, network=app) as client:
        web.connect(app, aliases=["db"])
        web.restart(0)
        assert reaches(client, "db")
        web.disconnect("bridge")
        web.restart(0)
        assert set(web.inspect()["NetworkSettings"]["Networks"]) == {"app"}
        web.disconnect(app)
        assert "eth" not in says(web, "ip -o link")
        web.restart(0)
        web.connect(app)
        assert reaches(client, "web")


def test_joining_while_it_is_stopped(lab: Lab, net_engine: Engine, app: str) -> None:
    made = net_engine.containers.create("busybox", SLEEP)
    made.connect(app, ip="")
    made.start()
    assert set(made.inspect()["NetworkSettings"]["Networks"]) == {"bridge", "app"}
    made.stop(0)
    made.disconnect("bridge")
    made.start()
    assert set(made.inspect()["NetworkSettings"]["Networks"]) == {"app"}
    alone = net_engine.containers.create("busybox", SLEEP, network="none")
    with pytest.raises(Conflict):
        alone.connect(app)


def test_what_it_wrote_into_its_hosts_stays(lab: Lab, net_engine: Engine, app: str) -> None:
    with container(net_engine) as made:
        says(made, "echo '192.0.2.9 mine' >> /etc/hosts")
        made.connect(app)
        assert "192.0.2.9 mine\n" in says(made, "cat /etc/hosts")


def test_hosts_that_are_no_text_or_too_large(lab: Lab, net_engine: Engine, app: str) -> None:
    with container(net_engine) as made:
        says(made, r"printf '\377\r\n' >> /etc/hosts")
        made.connect(app)
        path = Path(net_engine.run_directory, "networks", f"{made.id}.hosts")
        assert b"\xff\r\n" in path.read_bytes()
        says(made, "dd if=/dev/zero of=/etc/hosts bs=1M count=2 2>/dev/null")
        made.disconnect(app)
        assert path.stat().st_size == 2 << 20


def test_a_link_in_place_of_its_hosts_is_not_followed(lab: Lab, net_engine: Engine, app: str) -> None:
    """The file is a mount: it cannot be removed or replaced from within."""
    with container(net_engine) as made:
        assert made.exec(shell("rm /etc/hosts || ln -sf /etc/passwd /etc/hosts"), stderr=PIPE).returncode != 0
        made.connect(app)
        assert not Path(net_engine.run_directory, "networks", f"{made.id}.hosts").is_symlink()


def test_restart_keeps_the_address(lab: Lab, net_engine: Engine) -> None:
    with container(net_engine) as first, container(net_engine) as second:
        address = address_of(second)
        first.remove(force=True)  # a lower address is free now
        second.restart(0)
        assert address_of(second) == address
        with container(net_engine) as third:
            assert address_of(third) < address


def test_the_way_out_moves_to_another_network(lab: Lab, net_engine: Engine, app: str) -> None:
    """With the published ports."""
    with serving(net_engine, publish=["8080:80"]) as made:
        made.connect(app)
        assert answers(lab, 8080)
        made.disconnect("bridge")
        assert f"default via {net_engine.networks.get(app).subnets[0].gateway}" in says(made, "ip route")
        assert answers(lab, 8080)
        assert made.inspect()["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"] == "8080"
        made.disconnect(app)
        assert "default" not in says(made, "ip route")
        with serving(net_engine, publish=["8080:80"]):
            assert answers(lab, 8080)
            with pytest.raises(Conflict, match="8080"):
                made.connect(app)
        made.connect(app)
        assert answers(lab, 8080)


def test_a_new_name_is_found(lab: Lab, net_engine: Engine, app: str) -> None:
    with container(net_engine, network=app, name="old") as made, container(net_engine, network=app) as client:
        made.rename("new")
        assert reaches(client, "new")
        assert not reaches(client, "old")


def test_ports_in_all_forms(lab: Lab, net_engine: Engine) -> None:
    forms = ["8080:80", "127.0.0.1:0:81/udp", "8100-8101:90-91", "8200-8210:95", "192.0.2.2::96/sctp", "97"]
    with serving(net_engine, publish=forms, expose=["99"], name="web") as made:
        ports = made.inspect()["NetworkSettings"]["Ports"]
        assert ports["80/tcp"] == [
            {"HostIp": "0.0.0.0", "HostPort": "8080"},
            {"HostIp": "::", "HostPort": "8080"},
        ]
        assert ports["81/udp"][0]["HostIp"] == "127.0.0.1"
        assert int(ports["81/udp"][0]["HostPort"]) > 0
        assert [ports[f"{n}/tcp"][0]["HostPort"] for n in (90, 91, 95)] == ["8100", "8101", "8200"]
        assert ports["96/sctp"][0]["HostIp"] == "192.0.2.2"
        assert int(ports["97/tcp"][0]["HostPort"]) > 0
        assert ports["99/tcp"] is None
        assert made.inspect()["HostConfig"]["PortBindings"]["95/tcp"] == [
            {"HostIp": "", "HostPort": "8200-8210"}
        ]
        assert command(net_engine, "port", "web", "80") == "0.0.0.0:8080\n[::]:8080\n"
        assert "99" in command(net_engine, "port", "web", "99", code=1)
        assert "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp" in command(net_engine, "ps", "--no-trunc")
        assert answers(lab, 8080)


def test_publish_all(lab: Lab, net_engine: Engine) -> None:
    with serving(net_engine, publish_all=True, expose=["80", "81/udp"]) as made:
        ports = made.inspect()["NetworkSettings"]["Ports"]
        assert answers(lab, int(ports["80/tcp"][0]["HostPort"]))
        assert int(ports["81/udp"][0]["HostPort"]) > 0


def test_a_bad_port_makes_no_container(lab: Lab, net_engine: Engine) -> None:
    for bad in ("80:x", "[::1:80:80", "70000"):
        with pytest.raises(SpecError):
            net_engine.containers.create("busybox", SLEEP, publish=[bad])
    assert list(net_engine.containers) == []


def test_a_port_of_a_program_of_the_host(lab: Lab, net_engine: Engine) -> None:
    with server(lab.host, AF_INET, SOCK_STREAM, 8085):
        made = net_engine.containers.create("busybox", SLEEP, publish=["8085:80"])
        with pytest.raises(Conflict, match=r"8085/tcp: it is in use by .*process \d+"):
            made.start()
        assert address_of(made) == ""
    made.start()
    assert address_of(made) != ""


def test_a_port_on_an_address_that_is_not_ours(lab: Lab, net_engine: Engine) -> None:
    for form in ("198.51.100.7:80:80", "198.51.100.7::80"):
        made = net_engine.containers.create("busybox", SLEEP, publish=[form])
        with pytest.raises(Conflict, match=r"198\.51\.100\.7 is not an address of this host"):
            made.start()


def test_ports_on_localhost_on_the_hosts_address_and_by_hairpin(lab: Lab, net_engine: Engine) -> None:
    with serving(net_engine, publish=["8080:80"]) as made:
        for where, address in ((lab.host, "127.0.0.1"), (lab.host, lab.HOST4), (lab.outside, lab.HOST4)):
            assert ask(where, SOCK_STREAM, address, 8080) == "hello\n", address
        assert "hello" in says(made, f"nc -w 5 {lab.HOST4} 8080 </dev/null")


def test_long_form_of_a_network(lab: Lab, net_engine: Engine) -> None:
    net_engine.networks.create("plan", subnets=["10.66.0.0/24"])
    words = "name=plan,ip=10.66.0.77,alias=x,mac-address=02:00:00:00:00:77"
    with container(net_engine, network=[words, "bridge"]) as made:
        assert "10.66.0.77" in says(made, "ip -o -4 addr")
        assert "02:00:00:00:00:77" in says(made, "ip -o link")
        shown = json.loads(command(net_engine, "inspect", made.id))[0]
        assert shown["HostConfig"]["NetworkMode"] == "plan"
        assert command(net_engine, "ps", "--format", "{{.Networks}}") == "plan,bridge\n"
        assert made.short_id in command(net_engine, "ps", "--filter", "network=bridge")
    net_engine.networks.remove("plan")
    for bad in ("name=x,nonsense=1", "alias=x", "name=x,ip="):
        with pytest.raises(SpecError):
            net_engine.containers.create("busybox", SLEEP, network=bad)


def test_take_down_leaves_nothing_in_the_kernel(lab: Lab, net_engine: Engine) -> None:
    with container(net_engine), pytest.raises(Conflict):
        net_engine.networks.take_down()
    net_engine.networks.take_down()
    assert "fastdock" not in lab.nft("list", "tables")
    assert [word for word in lab.host.run("ip", "-o", "link").split() if word.startswith("fastdock")] == []
    with container(net_engine) as made:  # it comes back
        assert address_of(made) != ""


def test_a_root_that_was_deleted_and_made_again_has_the_same_addresses(lab: Lab, tmp_path: Path) -> None:
    addresses = []
    for _ in range(2):
        with Engine(tmp_path / "again") as engine:
            engine.images.import_tar(io.BytesIO(busybox_tar()), "busybox")
            done = engine.run("busybox", ["ip", "-o", "-4", "addr"], network="bridge", stdout=PIPE, text=True)
            addresses.append(done.stdout.split("inet ")[-1].split()[0])
        shutil.rmtree(tmp_path / "again")
    assert addresses[0] == addresses[1]


def test_what_a_deleted_root_left_is_removed(lab: Lab, tmp_path: Path) -> None:
    """By the next root that makes its default network: without that, 31 roots are all that a machine has in a lifetime."""
    for number in range(2):
        with Engine(tmp_path / f"root{number}") as engine:
            engine.images.import_tar(io.BytesIO(busybox_tar()), "busybox")
            engine.networks.create("own")
            engine.run("busybox", ["true"], network="bridge")
            tables = lab.nft("list", "tables")
            links = lab.host.run("ip", "-o", "link")
            assert tables.count("fastdock-") == 2, tables
            assert links.count(": fd-") == 1, links
        shutil.rmtree(tmp_path / f"root{number}")


def test_a_default_network_that_cannot_be_made_says_what_to_do(lab: Lab, net_engine: Engine) -> None:
    for prefix in ("172.16.0.0/12", "192.168.0.0/16", "10.0.0.0/8"):
        lab.host.run("ip", "route", "add", prefix, "dev", "lo")
    made = net_engine.containers.create("busybox", SLEEP)
    with pytest.raises(FastdockError, match="no subnet is free"):
        made.start()


def _names(engine: Engine, *filters: str) -> list[str]:
    words = [word for text in filters for word in ("--filter", text)]
    return command(engine, "network", "ls", "--format", "{{.Name}}", *words).split()


def test_filters_of_networks_as_dockers(lab: Lab, net_engine: Engine) -> None:
    command(net_engine, "network", "create", "--attachable", "--scope", "local", "--label", "a=b", "used")
    command(net_engine, "network", "create", "--label", "a=c", "--label", "z", "free")
    with container(net_engine, network="used"):
        assert _names(net_engine, "type=custom") == ["free", "used"]
        assert _names(net_engine, "type=builtin") == ["bridge", "host", "none"]
        assert _names(net_engine, "type=custom", "type=builtin", "scope=local") == [
            "bridge", "free", "host", "none", "used",
        ]  # fmt: skip
        assert _names(net_engine, "scope=swarm") == []
        assert _names(net_engine, "dangling=true") == ["free"]
        assert _names(net_engine, "dangling=false", "driver=bridge") == ["bridge", "used"]
        assert _names(net_engine, "name=us", "name=ee") == ["free", "used"]
        assert _names(net_engine, "label=a", "label=z") == ["free"]
        assert "type=" in command(net_engine, "network", "ls", "--filter", "x=y", code=1)
        assert "builtin" in command(net_engine, "network", "ls", "--filter", "type=y", code=1)
        assert '"used"' in command(net_engine, "network", "inspect", "-v", "used")


def test_prune_with_filters_and_rm_by_force(lab: Lab, net_engine: Engine) -> None:
    for name, label in (("one", "a=b"), ("two", "a=c")):
        net_engine.networks.create(name, labels=dict([label.split("=")]))
    assert command(net_engine, "network", "prune", "-f", "--filter", "until=1h") == ""
    assert (
        command(net_engine, "network", "prune", "-f", "--filter", "label=a=b") == "Deleted Networks:\none\n\n"
    )
    assert command(net_engine, "network", "prune", "-f", "--filter", "label!=a") == ""
    assert "nope" in command(net_engine, "network", "rm", "nope", code=1)
    assert command(net_engine, "network", "rm", "-f", "nope", "two") == "two\n"
