"""What is restored after somebody flushed, deleted or killed something, and what many processes do at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from socket import AF_INET, SOCK_STREAM

import pytest
from netlab import Lab, Namespace, ask, pings, server

from fastdock._errors import Conflict, FastdockError, NotFound, SpecError
from fastdock.network import NetworkOptions, Networks
from fastdock.store.database import Database

pytestmark = pytest.mark.kernel


def test_a_flush_is_repaired_by_the_next_start(lab: Lab) -> None:
    guest = lab.guest(publish=["8080:80"], egress="198.51.100.0/24")
    before = lab.nft("list", "ruleset")
    with server(guest, AF_INET, SOCK_STREAM, 80):
        lab.nft("flush", "ruleset")
        assert ask(lab.outside, SOCK_STREAM, lab.HOST4, 8080, timeout=0.3) is None
        late = lab.guest(publish=["8081:80"])
        assert ask(lab.outside, SOCK_STREAM, lab.HOST4, 8080) == lab.OUTSIDE4
        assert pings(late, lab.OUTSIDE4)
        assert not pings(guest, lab.OUTSIDE4), "its policy is back too"
    lab.networks.detach(late.id)
    assert sorted(lab.nft("list", "ruleset").split()) == sorted(before.split())


def test_repair_restores_single_elements_and_rules(lab: Lab) -> None:
    guest = lab.guest(publish=["8080:80"])
    before = lab.nft("list", "ruleset")
    lab.nft("flush", "table", "inet", "fastdock")
    lab.nft("flush", "set", "bridge", "fastdock", "senders4")
    assert not pings(guest, lab.OUTSIDE4)
    lab.networks.repair()
    # Its questions for the gateway were dropped, too, and are asked once a second (retrans_time_ms in arp(7)).
    assert pings(guest, lab.OUTSIDE4, timeout=10)
    assert sorted(lab.nft("list", "ruleset").split()) == sorted(before.split())


def test_repair_loses_no_packet_of_a_connection(lab: Lab) -> None:
    """The tables are replaced in one transaction."""
    guest = lab.guest(publish=["8080:80"])
    with server(guest, AF_INET, SOCK_STREAM, 80):
        for _ in range(20):
            lab.networks.repair()
            assert ask(lab.outside, SOCK_STREAM, lab.HOST4, 8080) == lab.OUTSIDE4


def test_a_bridge_that_was_deleted_is_made_again(lab: Lab) -> None:
    network = lab.networks.create("app")
    lab.guest("app")
    lab.host.run("ip", "link", "delete", network.device)
    one, two = lab.guest("app"), lab.guest("app")
    assert pings(one, two.address())


def test_dead_containers_are_collected(lab: Lab) -> None:
    guest = lab.guest(publish=["8080:80"])
    assert lab.networks.collect() == 0
    guest.end()
    assert lab.networks.collect() == 1
    again = lab.guest(publish=["8080:80"])
    assert again.address() == guest.address()


def test_a_zombie_is_dead(lab: Lab) -> None:
    """Whoever adopted it may never wait for it."""
    guest = lab.guest(publish=["8080:80"])
    assert guest.process.stdin is not None
    guest.process.stdin.close()  # it ends, and nobody waits
    os.waitid(os.P_PID, guest.process.pid, os.WEXITED | os.WNOWAIT)
    lab.networks.collect()
    assert lab.guest(publish=["8080:80"]).address() == guest.address()
    guest.process.wait()
    assert guest.process.stdout is not None
    guest.process.stdout.close()


def test_a_starter_that_was_killed_leaves_nothing(lab: Lab) -> None:
    """SIGKILL between plan() and started()."""
    program = (
        "import sys, signal, os\n"
        "from fastdock.network import Networks, NetworkOptions\n"
        "from fastdock.store.database import Database\n"
        f"networks = Networks(Database({str(lab.directory / 'fastdock.db')!r}), {str(lab.directory / 'run')!r})\n"
        "networks.plan('d' * 64, NetworkOptions(publish=['8080:80']))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    lab.networks.get("bridge")
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(Conflict):
        lab.guest(publish=["8080:80"])
    assert lab.networks.collect() == 1
    assert lab.guest(publish=["8080:80"]).address() == "172.17.0.2"


def test_networks_are_created_listed_and_removed(lab: Lab) -> None:
    made = lab.networks.create("app", labels={"a": "b"}, options={"com.docker.network.driver.mtu": "1400"})
    assert [n.name for n in lab.networks.list()] == ["app", "bridge", "host", "none"]
    assert lab.networks.get(made.id[:6]).labels == {"a": "b"}
    guest = lab.guest("app", name="user")
    assert "mtu 1400" in guest.run("ip", "link", "show", "eth0")
    with pytest.raises(Conflict, match="in use by user"):
        lab.networks.remove("app")
    assert lab.networks.prune() == []
    lab.networks.detach(guest.id)
    assert [n.name for n in lab.networks.prune()] == ["app"]
    assert made.device not in lab.host.run("ip", "link")
    with pytest.raises(NotFound):
        lab.networks.get("app")


def test_what_cannot_be_a_network(lab: Lab) -> None:
    create = lab.networks.create
    create("app", subnets=["10.7.0.0/24"])
    for kind, options in (
        (Conflict, {"name": "app"}),
        (Conflict, {"name": "host"}),
        (Conflict, {"name": "x", "subnets": ["10.7.0.0/16"]}),
        (SpecError, {"name": "a b"}),
        (SpecError, {"name": "x", "subnets": ["10.0.0.0/31"]}),
        (SpecError, {"name": "x", "subnets": ["10.0.0.0"], "gateways": ["10.0.0.1"]}),
        (SpecError, {"name": "x", "subnets": ["10.8.0.0/24"], "gateways": ["10.9.0.1"]}),
        (SpecError, {"name": "x", "driver": "overlay"}),
        (SpecError, {"name": "x", "driver": "macvlan"}),
        (SpecError, {"name": "x", "options": {"com.docker.network.bridge.name": "far-too-long-a-name"}}),
        (SpecError, {"name": "x", "options": {"com.docker.network.bridge.enable_icc": "maybe"}}),
    ):
        with pytest.raises(kind):
            create(**options)  # type: ignore[arg-type]
    assert [n.name for n in lab.networks.list()] == ["app", "bridge", "host", "none"]


def test_subnets_avoid_the_hosts_routes(lab: Lab) -> None:
    lab.host.run("ip", "route", "add", "172.17.0.0/24", "via", lab.OUTSIDE4)
    lab.host.run("ip", "addr", "add", "172.18.3.4/24", "dev", "lo")
    assert lab.networks.get("bridge").subnets[0].subnet == "172.19.0.0/16"


def test_a_full_network_says_so(lab: Lab) -> None:
    lab.networks.create("tiny", subnets=["10.6.0.0/30"])
    lab.guest("tiny")
    with pytest.raises(FastdockError, match="no address is free"):
        lab.guest("tiny")


def test_the_1024th_port_of_a_bridge(lab: Lab) -> None:
    """A bridge takes 1,023: the error says so, and nothing is left."""
    from fastdock._core import net
    from fastdock._errors import KernelError

    index = net.ensure_bridge("fdt-full", [])
    with lab.oracle(lab.host) as oracle:
        for number in range(512):
            oracle.link("add", ifname=f"a{number}", kind="veth", peer={"ifname": f"b{number}"}, master=index)
        for peer in oracle.link_lookup(kind="veth", ifname=lambda name: name and name[0] == "b")[:511]:
            oracle.link("set", index=peer, master=index)
    target = Namespace.make()
    plan = net.AttachPlan(net.Scope())
    plan.add_bridge_endpoint("fdt-full", "fdv1", "eth0", "02:42:00:00:00:01", ["10.0.0.2/24"], [])
    with pytest.raises(KernelError, match="1,023"):
        net.attach(plan, target.fd)
    assert "fdv1" not in lab.host.run("ip", "link")
    target.close()


def _take_many(database: str, number: int, count: int, results: multiprocessing.Queue[str]) -> None:
    """A process that starts and ends containers, as far as the database goes."""
    networks = Networks(Database(database), f"{database}.run")
    kept: list[str] = []
    for turn in range(count):
        container = f"{number:02x}{turn:04x}".ljust(64, "0")
        plan = networks.plan(container, NetworkOptions(publish=["80"]))
        kept.append(plan.endpoints[0].plain_addresses[0])
        if turn % 4 == 3:
            networks.detach(container)
            kept.pop()
    results.put(json.dumps(kept))


def test_no_address_twice_among_8_processes(lab: Lab) -> None:
    """8 x 200 containers at once; every fourth ends again."""
    database = str(lab.directory / "many.db")
    networks = Networks(Database(database), f"{database}.run")
    networks.get("bridge")
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=_take_many, args=(database, n, 200, results)) for n in range(8)]
    for process in processes:
        process.start()
    taken = [address for _ in processes for address in json.loads(results.get())]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len(taken) == len(set(taken)) == 8 * 150
    with sqlite3.connect(database) as db:
        rows = db.execute("SELECT address, container_id FROM network_addresses").fetchall()
        (ports,) = db.execute("SELECT count(DISTINCT port) FROM network_ports").fetchone()
    db.close()
    assert len(rows) == len(taken)
    assert ports == len(taken)
    assert networks.collect() == len(taken), "their owners are gone"
    assert networks.plan("f" * 64, NetworkOptions()).endpoints[0].addresses == ("172.17.0.2/16",)


def test_nothing_is_open_in_the_callers_process(lab: Lab, tmp_path: Path) -> None:
    lab.guest("bridge")
    before = set(os.listdir("/proc/self/fd"))
    guest = lab.guest("bridge", publish=["8080:80"])
    lab.networks.detach(guest.id)
    after = set(os.listdir("/proc/self/fd"))
    assert len(after - before) <= 4, "the test's own: the guest's namespace and pipes"
