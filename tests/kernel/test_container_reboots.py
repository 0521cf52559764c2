"""A machine that goes down: afterwards the next command shows the truth."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kept import SLEEP, assert_nothing_left, container, kill_monitor, shell, wait_until
from test_containers_cli import Shell

from fastdock import Engine

pytestmark = pytest.mark.kernel

OBEYS = shell("trap 'exit 0' TERM; echo on; while :; do sleep 0.1; done")


def machine_goes_down(engine: Engine) -> None:
    """All monitors and their containers are killed, and /run is empty."""
    for one in engine.containers.list():
        if one.is_foreground:  # it went with its command
            continue
        pidfd = os.pidfd_open(one.state.pid)
        kill_monitor(one)
        assert select.select([pidfd], [], [], 60)[0]
        os.close(pidfd)
    for name in os.listdir(engine.run_directory):
        if name not in ("sessions",):  # those of this process and of other tests
            shutil.rmtree(os.path.join(engine.run_directory, name), ignore_errors=True)
    os.makedirs(os.path.join(engine.run_directory, "containers"), mode=0o700)


class TestReboot:
    def test_machine_went_down(self, engine: Engine) -> None:
        """All processes gone and /run empty: ended with 255, as Docker says it, and can be started again."""
        with container(engine) as made:
            # The record of a start reaches the disk some seconds later anyway: it is not waited for by start().
            wait_until(made, lambda: os.path.exists(f"{made.directory}/state.json"))
            state = made.state
            pidfd = os.pidfd_open(state.pid)
            kill_monitor(made)
            select.select([pidfd], [], [], 60)
            os.close(pidfd)
            shutil.rmtree(made.run_directory)
            with Engine(engine.root) as fresh:
                after = fresh.containers.get(made.id)
                assert (after.status, after.state.exit_code) == ("exited", 255)
                after.start()
                assert after.exec(["true"]).returncode == 0

    def test_record_without_its_content(self, engine: Engine) -> None:
        """The name reached the disk and the content did not: what it was is not known, but that it ran."""
        with container(engine) as made:
            made.stop(0)
            Path(made.directory, "state.json").write_bytes(b"")
            assert (made.status, made.state.exit_code) == ("exited", 255)
            assert [one.status for one in engine.containers if one.id == made.id] == ["exited"]
            made.start()
            assert made.exec(["true"]).returncode == 0

    def test_what_starts_with_the_machine(self, engine: Engine) -> None:
        """Restart policies after a reboot: what the unit of docs/containers.md starts, dockerd would start."""
        command = Shell(engine.root)
        policies = {"always": "always", "stopped": "always", "unless": "unless-stopped", "down": "unless-stopped",
                    "left": "unless-stopped", "failing": "on-failure", "never": "no", "created": "always"}  # fmt: skip
        try:
            for name, policy in policies.items():
                made = engine.containers.create("busybox", OBEYS, name=name, restart=policy, network="none")
                if name != "created":
                    made.start()
                    made.wait_for(log="on")
            for name in ("stopped", "left"):
                assert engine.containers.get(name).stop() == 0
            down = engine.containers.get("down")
            os.kill(down.state.monitor, signal.SIGTERM)  # as systemd does to all that is left
            assert down.wait() == 0
            machine_goes_down(engine)
            fresh = Engine(engine.root)
            lost = {one.name for one in fresh.containers if one.state.exit_code == 255}
            assert lost == {"always", "unless", "failing", "never"}
            assert fresh.containers.get("down").state.exit_code == 0
            command("start", "--all", "--filter", "should-start-on-boot=true")
            assert command("ps", "--format", "{{.Names}}").split() == ["down", "unless", "stopped", "always"]
            assert command("ps", "-aq", "--filter", "should-start-on-boot=true").count("\n") == 4
            command("stop", "--all", "--filter", "restart-policy=always")
            assert command("ps", "--format", "{{.Names}}").split() == ["down", "unless"]
            command("start", "--all", "--filter", "restart-policy=always")
            assert set(command("ps", "--format", "{{.Names}}").split()) == {
                "down", "unless", "stopped", "always", "created"
            }  # fmt: skip
            for words in (
                ("start",),
                ("start", "x", "--all"),
                ("start", "--filter", "name=x", "x"),
                ("stop",),
            ):
                command(*words, code=1)
        finally:
            for one in engine.containers:
                one.remove(force=True)

    def test_everything_is_gone_or_there(self, engine: Engine, tmp_path: Path) -> None:
        """Addresses, ports, volumes, execs, foreground runs, exit statuses, id ranges."""
        kept = engine.containers.create(
            "busybox", OBEYS, name="kept", publish=["127.0.0.1:0:80"], volumes=["data:/data"]
        )
        kept.start()
        kept.exec(["sh", "-c", "echo 1 > /data/x; echo 2 > /y"])
        execution = kept.popen(["sleep", "1000"])
        ended = engine.containers.create("busybox", shell("exit 9"), name="ended")
        ended.start()
        assert ended.wait() == 9
        removed = engine.containers.create("busybox", SLEEP, name="removed", auto_remove=True)
        removed.start()
        run = subprocess.Popen(
            [sys.executable, "-m", "fastdock", "--root", engine.root, "run", "--rm", "busybox", *SLEEP]
        )
        while not any(one.is_foreground for one in engine.containers.list()):
            pass
        try:
            run.kill()
            run.wait()
            machine_goes_down(engine)
            execution.wait()
            with Engine(engine.root) as fresh:
                assert {one.name: one.state.exit_code for one in fresh.containers} == {
                    "kept": 255, "ended": 9,
                }  # fmt: skip
                assert fresh.containers.list() == []
                again = fresh.containers.get("kept")
                again.start()
                assert again.exec(["cat", "/data/x", "/y"], capture_output=True).stdout == b"1\n2\n"
                assert again.inspect()["NetworkSettings"]["Ports"]["80/tcp"]
        finally:
            for one in engine.containers:
                one.remove(force=True, volumes=True)
            engine.volumes.remove("data")
        assert_nothing_left(engine)

    def test_half_removed_container_goes(self, engine: Engine) -> None:
        """Killed when the directory was removed, and nothing else yet."""
        made = engine.containers.create("busybox", SLEEP)
        ids = Path(engine.root, "ids", str(made.record.ids))
        assert ids.read_text() == made.id
        shutil.rmtree(made.directory)
        assert made.id not in [found.id for found in engine.containers.list(all=True)]
        assert not ids.exists()
        assert_nothing_left(engine)

    def test_half_made_container_goes(self, engine: Engine) -> None:
        containers = engine.containers
        os.mkdir(os.path.join(containers.directory, "f" * 64), 0o700)
        os.makedirs(os.path.join(engine.root, "ids"), exist_ok=True)
        Path(engine.root, "ids", "3").write_text("f" * 64)
        containers.repair()
        assert not os.path.exists(os.path.join(containers.directory, "f" * 64))
        assert not Path(engine.root, "ids", "3").exists()
