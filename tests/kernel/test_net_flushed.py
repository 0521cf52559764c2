"""What somebody took out of our firewall tables, as `nft` can: each next start sees it, and all is as before."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from socket import AF_INET, SOCK_STREAM

import pytest
from netlab import Lab, ask, pings, server

from fastdock._core import net
from fastdock.network import NetworkOptions, Networks
from fastdock.store.database import Database

pytestmark = pytest.mark.kernel


def _listing(lab: Lab) -> list[str]:
    return sorted(lab.nft("list", "ruleset").split())


def _delete_a_rule(lab: Lab) -> None:
    """The last one of the chain that sends connections to published ports."""
    rules = lab.nft("-a", "list", "chain", "inet", "fastdock", "prerouting")
    handle = rules.rpartition("# handle ")[2].split()[0]
    lab.nft("delete", "rule", "inet", "fastdock", "prerouting", "handle", handle)


def _nft(*command: str) -> Callable[[Lab], None]:
    def flush(lab: Lab) -> None:
        lab.nft(*command)

    return flush


FLUSHES = {
    "all": _nft("flush", "ruleset"),
    "one of the two tables": _nft("delete", "table", "bridge", "fastdock"),
    "rules of a table": _nft("flush", "table", "inet", "fastdock"),
    "rules of the bridge's table": _nft("flush", "table", "bridge", "fastdock"),
    "rules of a chain": _nft("flush", "chain", "inet", "fastdock", "ports"),
    "a rule": _delete_a_rule,
    "a map": _nft("flush", "map", "inet", "fastdock", "ports4"),
    "a set": _nft("flush", "set", "inet", "fastdock", "guarded4"),
    "a set of ranges": _nft("flush", "set", "inet", "fastdock", "allowed4"),
    "a set of senders": _nft("flush", "set", "bridge", "fastdock", "senders4"),
    "a table put to sleep": _nft("add", "table", "inet", "fastdock", "{ flags dormant; }"),
    "a rule that lets all pass": _nft("insert", "rule", "inet", "fastdock", "inbound", "accept"),
}


@pytest.mark.parametrize("what", FLUSHES)
def test_the_next_start_repairs(lab: Lab, what: str) -> None:
    """Of this process, which remembers what it has looked at."""
    guest = lab.guest(publish=["8080:80"], egress="198.51.100.0/24,192.0.2.0/30")
    lab.outside.run("ip", "addr", "add", "203.0.113.1/32", "dev", "lo")
    lab.networks.detach(lab.guest().id)
    before = _listing(lab)
    with server(guest, AF_INET, SOCK_STREAM, 80):
        assert ask(lab.outside, SOCK_STREAM, lab.HOST4, 8080) == lab.OUTSIDE4
        FLUSHES[what](lab)
        assert _listing(lab) != before
        lab.networks.detach(lab.guest().id)
        assert _listing(lab) == before
        assert ask(lab.outside, SOCK_STREAM, lab.HOST4, 8080) == lab.OUTSIDE4
    # What it asked meanwhile for its gateway was dropped, and is asked again once a second.
    assert pings(guest, lab.OUTSIDE4, timeout=10)
    assert not pings(guest, "203.0.113.1", timeout=0.3), "its policy is what it was"


@pytest.mark.parametrize("what", ["rules of a table", "a rule", "a map", "a set of senders"])
def test_the_next_start_of_another_process_repairs(lab: Lab, what: str) -> None:
    """It has looked at nothing before."""
    lab.guest(publish=["8080:80"])
    before = _listing(lab)
    FLUSHES[what](lab)
    _start_and_end_elsewhere(lab)
    assert _listing(lab) == before


def _start_and_end_elsewhere(lab: Lab) -> None:
    program = (
        "from fastdock.network import Networks, NetworkOptions\n"
        "from fastdock.store.database import Database\n"
        f"networks = Networks(Database({str(lab.directory / 'fastdock.db')!r}), {str(lab.directory / 'run')!r})\n"
        "networks.plan('d' * 64, NetworkOptions(publish=['9090:80']))\n"
        "networks.detach('d' * 64)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_what_others_change_is_no_flush(lab: Lab) -> None:
    """Neither other processes of ours nor other tables; only a change of ours after a change of theirs is seen."""
    lab.guest()
    scope = net.Scope()
    assert net.firewall_is_current(scope)
    lab.nft("add", "table", "inet", "others")
    assert net.firewall_is_current(scope)
    _start_and_end_elsewhere(lab)
    assert net.firewall_is_current(scope)
    lab.guest(publish=["8080:80"])
    assert net.firewall_is_current(scope)
    lab.nft("flush", "chain", "inet", "fastdock", "ports")
    lab.nft("delete", "table", "inet", "others")
    assert not net.firewall_is_current(scope)


def test_a_flush_behind_a_change_that_was_none(lab: Lab) -> None:
    """The kernel counts no transaction that changes nothing: it must not stand for that of somebody else."""
    network = lab.networks.create("app")
    lab.guest("app")
    scope, same = net.Scope(), net.FirewallRules()
    same.add_bridge(network.device)
    assert net.firewall_is_current(scope)
    net.add_rules(scope, same)
    lab.nft("flush", "map", "inet", "fastdock", "ports4")
    assert not net.firewall_is_current(scope)


def test_tables_of_two_engines(lab: Lab) -> None:
    """A process that has both knows of each whether it is whole."""
    one, two = net.Scope("fastdock-a", "fa"), net.Scope("fastdock-b", "fb")
    for scope in (one, two):
        net.rebuild_firewall(scope, net.FirewallRules())
    assert net.firewall_is_current(one)
    assert net.firewall_is_current(two)
    sender = net.FirewallRules()
    sender.add_sender("fa0", "02:42:00:00:00:01", ["10.0.0.2"])
    net.add_rules(one, sender)
    lab.nft("flush", "set", "inet", "fastdock-b", "bridges")
    assert net.firewall_is_current(one)
    assert not net.firewall_is_current(two)
    net.remove_firewall(one)
    assert not net.firewall_is_current(one)


def _come_and_go(directory: str, number: int, lives: int) -> None:
    """A process whose containers start and end, with their elements of the firewall."""
    networks = Networks(Database(f"{directory}/fastdock.db"), f"{directory}/run")
    for life in range(lives):
        guest = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec cat"], stdin=-1, stdout=-1)
        assert guest.stdin is not None
        assert guest.stdout is not None
        guest.stdout.readline()
        container = f"{number:02x}{life:04x}".ljust(64, "0")
        plan = networks.plan(container, NetworkOptions(publish=[f"{8000 + number}:80"]))
        networks.attach(plan, guest.pid)
        networks.started(plan, guest.pid)
        guest.stdin.close()
        guest.wait()
        guest.stdout.close()
        networks.detach(container, plan)


def test_a_repair_beside_starts_and_ends_leaves_nothing_and_loses_nothing(lab: Lab) -> None:
    """Elements of a container that ends just then would stay, and its port would be taken for ever."""
    guest = lab.guest(publish=["8080:80"])
    before = _listing(lab)
    context = multiprocessing.get_context("fork")
    each = [context.Process(target=_come_and_go, args=(str(lab.directory), n, 10)) for n in range(4)]
    for process in each:
        process.start()
    while any(process.is_alive() for process in each):
        lab.networks.repair()
    for process in each:
        process.join()
        assert process.exitcode == 0
    assert _listing(lab) == before
    with server(guest, AF_INET, SOCK_STREAM, 80):
        assert ask(lab.outside, SOCK_STREAM, lab.HOST4, 8080) == lab.OUTSIDE4
