"""A plain ``fastdock run --rm`` in the foreground, as other processes see it: listed, entered, stopped, gone."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from kept import container
from test_containers_cli import Shell

from fastdock import Conflict, Container, ContainerNotFound, Engine, FastdockError, TimeoutExpired, _core, aio
from fastdock.containers.statistics import cgroup_of

pytestmark = pytest.mark.kernel

OBEYS = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done"


@contextmanager
def foreground(
    engine: Engine, *words: str, script: str = OBEYS
) -> Iterator[tuple[subprocess.Popen[str], Container]]:
    """The command's process, and its container as another process finds it."""
    command = [*Shell.command("run", "--rm", *words), "busybox", "sh", "-c", script]
    environment = {**os.environ, "FASTDOCK_ROOT": engine.root}
    before = {one.id for one in engine.containers.list()}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            # It is listed a moment after it has begun.
            deadline = time.monotonic() + 30
            while not (found := [one for one in engine.containers.list() if one.id not in before]):
                assert time.monotonic() < deadline
            yield process, found[0]
        finally:
            process.terminate()
            process.wait(timeout=30)


@pytest.fixture
def shell(engine: Engine) -> Shell:
    return Shell(engine.root)


def test_it_is_listed_and_inspected(engine: Engine, shell: Shell) -> None:
    with foreground(engine, "--network", "none", "-l", "a=b", "-e", "X=1") as (_, found):
        row = shell(
            "ps", "--filter", "label=a=b", "--format", "{{.ID}} {{.Image}} {{.State}} {{.Names}} {{.Labels}}"
        )
        assert row.split() == [found.short_id, "busybox", "running", found.name, "a=b"]
        for reference in (found.id, found.id[:7], found.name):
            assert engine.containers.get(reference).id == found.id
        said = found.inspect()
        assert said["State"]["Pid"] == found.pid
        assert said["HostConfig"]["AutoRemove"] is True
        assert "X=1" in said["Config"]["Env"]
        assert said["Config"]["Labels"] == {"a": "b"}
        assert said["Args"] == ["-c", OBEYS]
        assert said["Config"]["Hostname"] == found.short_id
        assert shell("ps", "-q", "--filter", "ancestor=busybox", "--filter", f"id={found.short_id}").split()
    assert shell("ps", "-aq") == ""
    with pytest.raises(ContainerNotFound):
        engine.containers.get(found.name)


def test_it_is_entered_and_measured(engine: Engine, shell: Shell) -> None:
    with foreground(engine, "--network", "none", "-m", "64m") as (_, found):
        done = found.exec(["sh", "-c", "echo $0; ps"], capture_output=True, text=True)
        assert "sleep 0.1" in done.stdout or "sh -c" in done.stdout
        assert shell("exec", found.name, "cat", "/proc/1/cmdline").startswith("sh\0-c")
        shell("exec", "-d", found.id, "touch", "/tmp/detached")
        found.write_bytes("/tmp/mine", b"abc")
        assert found.exec(["stat", "-c", "%u %s", "/tmp/mine"], capture_output=True).stdout == b"0 3\n"
        assert found.stats()["memory_limit"] == 64 << 20
        found.update(memory="128m")
        assert found.stats()["memory_limit"] == 128 << 20
        assert engine.containers.get(found.id).inspect()["HostConfig"]["Memory"] == 128 << 20
        assert any("sh -c" in " ".join(row) for row in found.top()[1])
        found.rename("neo")
        assert shell("ps", "--format", "{{.Names}}") == "neo\n"


def test_ports_and_addresses(engine: Engine, shell: Shell) -> None:
    with foreground(engine, "-p", "127.0.0.1::80") as (_, found):
        assert shell("port", found.id).startswith("80/tcp -> 127.0.0.1:")
        assert found.inspect()["NetworkSettings"]["IPAddress"]


def test_it_is_stopped(engine: Engine, shell: Shell) -> None:
    with foreground(engine, "--network", "none") as (process, found):
        waiting = subprocess.Popen(
            shell.command("wait", found.id), env={**os.environ, "FASTDOCK_ROOT": engine.root},
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        while not os.path.exists(os.path.join(found.run_directory, "exit")):
            time.sleep(0)
        assert found.stop() == 7
        assert process.wait(timeout=30) == 7
        assert waiting.communicate(timeout=30)[0] == "7\n"


def test_it_is_killed(engine: Engine, shell: Shell) -> None:
    with foreground(engine, "--network", "none") as (process, found):
        shell("kill", "-s", "TERM", found.id)
        assert process.wait(timeout=30) == 7
    with foreground(engine, "--network", "none", script="echo ready; trap '' TERM; sleep 1000") as (
        process,
        found,
    ):
        with pytest.raises(TimeoutExpired):
            found.wait(timeout=0)
        assert found.stop(timeout=0) == 137
        assert process.wait(timeout=30) == 137
    with foreground(engine, "--network", "none") as (process, found):
        with pytest.raises(Conflict):
            found.remove()
        found.remove(force=True)
        assert process.wait(timeout=30) == 137


def test_what_takes_a_record_says_so(engine: Engine, shell: Shell) -> None:
    with foreground(engine, "--network", "none") as (_, found):
        shell("logs", found.id, code=1)
        assert "nothing was recorded" in shell.errors
        for command in ("attach", "restart"):
            shell(command, found.id, code=1)
            assert "in the foreground" in shell.errors
            assert "run it with -d" in shell.errors
        shell("rm", found.id, code=1)
        assert found.state.running


WRITES = "echo new > /new; rm /etc/group; echo longer >> /etc/passwd; " + OBEYS


@pytest.mark.parametrize(
    "words", [(), ("-m", "64m"), ("--userns", "host")], ids=["memory", "disk", "host-ids"]
)
def test_what_it_writes_is_seen_and_committed(engine: Engine, shell: Shell, words: tuple[str, ...]) -> None:
    """In memory, on disk, and where the helper made it."""
    with foreground(engine, "--network", "none", *words, script=WRITES) as (_, found):
        assert shell("diff", found.name) == "C /etc\nD /etc/group\nC /etc/passwd\nA /new\n"
        assert found.size() > len("new\n")
        image = found.commit("of-foreground", changes=["ENV MADE=1"])
        assert found.status == "running"
        done = engine.run("of-foreground", ["sh", "-c", "cat /new; ls /etc; echo $MADE"], capture_output=True)
        assert done.stdout == b"new\nhostname\nhosts\npasswd\nresolv.conf\n1\n"  # what is mounted there
        owner = engine.run("of-foreground", ["stat", "-c", "%u:%g", "/new"], capture_output=True)
        assert owner.stdout == b"0:0\n"
    engine.images.remove(image.id, force=True)


def test_what_it_wrote_is_gone_with_it(engine: Engine) -> None:
    with foreground(engine, "--network", "none", script=WRITES) as (process, found):
        found.stop()
        process.wait(timeout=30)
        for look in (found.diff, found.commit):
            with pytest.raises(ContainerNotFound):
                look()
        assert found.size() == 0


def test_it_is_paused(engine: Engine, shell: Shell) -> None:
    """All of it, what exec started before and the processes that it forks meanwhile too; and it goes on."""
    forks = "trap 'exit 7' TERM; echo ready; while :; do /bin/true; done"
    with foreground(engine, "--network", "none", script=forks) as (process, found):
        shell("exec", "-d", found.id, "sleep", "1000")
        shell("pause", found.name)
        assert cgroup_of(found).is_frozen()
        used = found.stats()["cpu_ns"]
        assert shell("ps", "--filter", "status=paused", "-q").split() == [found.short_id]
        assert found.stats()["cpu_ns"] == used
        shell("pause", found.name, code=1)
        with pytest.raises(FastdockError):
            found.exec(["true"])
        shell("unpause", found.name)
        assert not cgroup_of(found).is_frozen()
        shell("unpause", found.name, code=1)
        assert found.exec(["true"]).returncode == 0
        found.pause()
        assert found.stop() == 7
        assert process.wait(timeout=30) == 7


def test_its_command_is_killed_while_it_is_paused(engine: Engine) -> None:
    with foreground(engine, "--network", "none") as (process, found):
        found.pause()
        process.kill()
        process.wait()
        engine.containers.repair()
        _core.Session.remove_abandoned(engine.root, engine.run_directory, engine.cgroup_parent)
        assert engine.containers.list(all=True) == []


def test_it_joins_a_network_and_leaves_it(engine: Engine, shell: Shell) -> None:
    shell("network", "create", "second")
    try:
        with foreground(engine) as (process, found):
            shell("network", "connect", "--alias", "other", "second", found.name)
            assert {*found.inspect()["NetworkSettings"]["Networks"]} == {"bridge", "second"}
            assert b"eth1" in found.exec(["ip", "addr"], capture_output=True).stdout
            shell("network", "connect", "second", found.name, code=1)
            assert "already" in shell.errors
            found.rename("anew")
            with container(engine, network="second") as neighbour:
                for name in ("other", "anew"):
                    assert (
                        neighbour.exec(["sh", "-c", f"ping -c1 -W5 {name}"], capture_output=True).returncode
                        == 0
                    )
            shell("network", "disconnect", "second", "anew")
            assert {*found.inspect()["NetworkSettings"]["Networks"]} == {"bridge"}
            assert b"eth1" not in found.exec(["ip", "addr"], capture_output=True).stdout
            found.connect("second")
            found.stop()
            process.wait(timeout=30)
    finally:
        shell("network", "rm", "second")  # nothing of it is on it any more
    with foreground(engine, "--network", "none") as (_, found), pytest.raises(Conflict):
        found.connect("bridge")


def test_the_command_is_killed(engine: Engine) -> None:
    """With it goes its container; the next look finds nothing of either."""
    with foreground(engine) as (process, found):
        process.kill()
        with suppress(ContainerNotFound):  # it may be swept before it is waited for
            assert found.wait() == 137
        engine.containers.repair()
        with pytest.raises(ContainerNotFound):
            engine.containers.get(found.id)
        assert engine.containers.list(all=True) == []
        assert not Path(found.run_directory).exists()


def test_a_stranger_that_has_its_number_gets_no_signal(engine: Engine) -> None:
    """Its record outlives it where its command was killed; its process's number may be anybody's then."""
    with foreground(engine, "--network", "none") as (process, found):
        process.kill()
        process.wait()
        with pytest.raises(FastdockError):
            found.kill()


@pytest.mark.asyncio
async def test_awaited(engine: Engine) -> None:
    with foreground(engine, "--network", "none") as (_, found):
        assert await aio.Container(found).stop() == 7


def test_events(engine: Engine, shell: Shell) -> None:
    with foreground(engine, "--network", "none", "-l", "a=b") as (process, found):
        found.stop()
        process.wait(timeout=30)
    events = [*found.events(since=0, until=time.time())]
    assert [event["Action"] for event in events] == ["create", "start", "die", "destroy"]
    assert events[2]["Actor"]["Attributes"] == {
        "a": "b",
        "exitCode": "7",
        "image": "busybox",
        "name": found.name,
    }


def test_killed_at_any_moment(engine: Engine) -> None:
    """The command, somewhere between its first line and its last; afterwards nothing of it is listed, or there."""
    generator = random.Random(2)
    for number in range(int(os.environ.get("FASTDOCK_CRASHES", "24"))):
        script = "exit 0" if number % 3 == 0 else "sleep 1000"
        words = Shell.command("run", "--rm", "--network", "none", "busybox", "sh", "-c", script)
        process = subprocess.Popen(words, env={**os.environ, "FASTDOCK_ROOT": engine.root})
        time.sleep(generator.random() * 0.3)
        process.kill()
        process.wait()
    with Engine(engine.root) as fresh:
        assert fresh.containers.list(all=True) == []
        assert os.listdir(fresh.containers.run_directory) == []


def test_many_at_once(engine: Engine, shell: Shell) -> None:
    with (
        foreground(engine, "--network", "none") as (_, first),
        foreground(engine, "--network", "none") as (_, second),
    ):
        assert set(shell("ps", "-q", "--no-trunc").split()) == {first.id, second.id}
        assert shell("ps", "-lq", "--no-trunc") == second.id + "\n"
        kept = engine.containers.create("busybox", ["true"], network="none")
        assert shell("ps", "-aq", "--no-trunc").split() == [kept.id, second.id, first.id]
        kept.remove()
