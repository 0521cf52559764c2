"""SIGKILL at any moment, many at once, and a machine that goes down: afterwards the next command shows the truth."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kept import SLEEP, container, shell, wait_until
from test_containers_cli import Shell

from fastdock import Conflict, Container, ContainerNotFound, ContainerNotRunning, Engine, FastdockError

pytestmark = pytest.mark.kernel

_CREATE_AND_START = """
import sys
from fastdock import Engine
engine = Engine(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
made = engine.containers.create("busybox", ["sleep", "1000"])
made.start()
made.exec(["true"])
made.stop(0)
made.remove()
"""


_LIVE = """
import sys
from fastdock import Engine, FastdockError
made = Engine(sys.argv[1]).containers.get(sys.argv[2])
print("ready", flush=True)
while True:
    for step in (made.start, lambda: made.exec(["true"]), made.pause, made.unpause, lambda: made.update(pids=50),
                 lambda: made.rename(made.name + "x"), lambda: made.stop(0)):
        try:
            step()
        except FastdockError:  # the other one was killed
            pass
"""


_START_ONE = """
import sys
from fastdock import Engine
Engine(sys.argv[1]).containers.create("busybox", ["sleep", "1000"], name="{name}").start()
"""


OBEYS = shell("trap 'exit 0' TERM; echo on; while :; do sleep 0.1; done")


def cgroups(engine: Engine) -> set[str]:
    name = engine.cgroup_parent
    return {
        p.name
        for top in Path("/sys/fs/cgroup").iterdir()
        for p in (top / name).glob("*/")
        if (top / name).is_dir()
    }


def kill_monitor(made: Container) -> None:
    """And returns when it is dead.  ProcessLookupError: it had ended."""
    number = made._containers.state(made.id).monitor
    if not number:
        raise ProcessLookupError
    pidfd = os.pidfd_open(number)
    try:
        # The number may be another's by now, and only what the descriptor stands for is killed.
        if "fastdock-monitor" not in os.readlink(f"/proc/{number}/exe"):
            raise ProcessLookupError
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert select.select([pidfd], [], [], 60)[0]
    except FileNotFoundError:
        raise ProcessLookupError from None
    finally:
        os.close(pidfd)


def kill_if_still(made: Container, member: str) -> None:
    """Kills the ``pid`` or ``monitor`` of its state; a number that is another's by now is left alone."""
    number = getattr(made._containers.state(made.id), member)
    if not number:
        return
    try:
        pidfd = os.pidfd_open(number)
    except ProcessLookupError:
        return
    try:
        if getattr(made._containers.state(made.id), member) == number:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)


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


def assert_nothing_left(engine: Engine) -> None:
    """No container, and nothing of any."""
    with Engine(engine.root) as fresh:
        for made in fresh.containers:
            made.remove(force=True, volumes=True)
        assert os.listdir(fresh.containers.directory) == []
        assert os.listdir(fresh.containers.run_directory) == []
        ids = os.path.join(fresh.root, "ids")
        assert not os.path.isdir(ids) or os.listdir(ids) == []
        assert cgroups(fresh) == set()


class TestMonitorKilled:
    def test_takes_its_container_with_it(self, engine: Engine) -> None:
        with container(engine) as made:
            state = made.state
            pidfd = os.pidfd_open(state.pid)
            kill_monitor(made)
            assert select.select([pidfd], [], [], 60)[0]  # by PR_SET_PDEATHSIG, before anybody repairs
            os.close(pidfd)
            engine.containers.repair()
            assert (made.state.status, made.state.exit_code) == ("exited", 137)
            assert made.state.started_at == state.started_at
            made.start()
            assert made.exec(["true"]).returncode == 0

    @pytest.mark.parametrize("paused", [False, True])
    def test_seen_by_those_who_have_it_open(self, engine: Engine, paused: bool) -> None:
        """Not only by the next who opens the state directory: a server has it open for months."""
        with container(engine) as made:
            if paused:
                made.pause()
            kill_monitor(made)
            assert (made.state.status, made.state.exit_code) == ("exited", 137)
            made.start()
            assert made.exec(["true"]).returncode == 0

    def test_with_rm(self, engine: Engine) -> None:
        made = engine.containers.create("busybox", SLEEP, auto_remove=True)
        made.start()
        kill_monitor(made)
        made._settled()
        with Engine(engine.root) as fresh, pytest.raises(ContainerNotFound):
            fresh.containers.get(made.id)
        assert not os.path.exists(made.directory)

    def test_who_waits_is_told(self, engine: Engine) -> None:
        with container(engine) as made:
            codes: list[int] = []
            thread = threading.Thread(target=lambda: codes.append(made.wait()))
            thread.start()
            kill_monitor(made)
            thread.join()
            assert codes == [137]

    def test_host_pid_namespace(self, engine: Engine) -> None:
        """Without a PID namespace of its own, the rest of the container is found by its cgroup."""
        with container(engine, shell("sleep 1000 & sleep 1000 & wait"), pid="host") as made:
            while len(made.top()[1]) < 3:
                pass
            kill_monitor(made)
            made._settled()
            assert made.state.exit_code == 137
            assert cgroups(engine) == set()

    def test_written_status_is_not_lost(self, engine: Engine) -> None:
        """Whatever moment a monitor is killed at: the status is the program's, or 137, never nothing."""
        seen = set()
        for number in range(25):
            made = engine.containers.create("busybox", shell("exit 7"))
            connection = made.start()
            del connection
            if number % 2:
                time.sleep(random.random() * 0.004)
            try:
                kill_monitor(made)
            except ProcessLookupError:
                pass
            state = made._settled()
            assert state.status == "exited", state
            seen.add(state.exit_code)
            made.remove()
        assert seen <= {7, 137}


class TestCallerKilled:
    def test_at_random_moments(self, engine: Engine) -> None:
        """The program that creates, starts, enters, stops and removes is killed somewhere on its way; two at once."""
        generator = random.Random(4)

        def once(_: int) -> None:
            program = subprocess.Popen(
                [sys.executable, "-c", _CREATE_AND_START, engine.root], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
            assert program.stdin
            assert program.stdout
            program.stdout.readline()
            program.stdin.write(b"\n")
            program.stdin.flush()
            time.sleep(generator.random() * 0.12)
            program.kill()
            program.communicate()

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(once, range(int(os.environ.get("FASTDOCK_CRASHES", "24")))))
        assert_nothing_left(engine)

    def test_any_two_at_random_moments(self, engine: Engine) -> None:
        """A program leads a container through its life; it, the monitor, the container: one or two are killed."""
        generator = random.Random(40)

        def once(number: int) -> None:
            made = engine.containers.create("busybox", SLEEP, name=f"victim{number}")
            program = subprocess.Popen(
                [sys.executable, "-c", _LIVE, engine.root, made.id],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            assert program.stdout
            assert program.stdout.readline() == b"ready\n"
            time.sleep(generator.random() * 0.1)
            victims = generator.sample(["program", "pid", "monitor"], generator.choice([1, 2]))
            for victim in victims:
                program.kill() if victim == "program" else kill_if_still(made, victim)
            program.kill()
            assert program.communicate()[1] == b""
            found = engine.containers.get(made.id)
            deadline = time.monotonic() + 60
            works = False
            while not works:  # it may be dying just now, and its monitor about to say so
                assert time.monotonic() < deadline
                with contextlib.suppress(ContainerNotRunning, Conflict):
                    found.unpause()
                with contextlib.suppress(ContainerNotRunning):
                    found.start()
                    works = found.exec(["true"]).returncode == 0
            assert found.stop(0) == 137
            found.remove()

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(once, range(int(os.environ.get("FASTDOCK_CRASHES", "24")))))
        assert_nothing_left(engine)

    def test_container_goes_on(self, engine: Engine) -> None:
        script = _START_ONE.format(name="orphan") + "import os; os.kill(os.getpid(), 9)"
        subprocess.run([sys.executable, "-c", script, engine.root], check=False)
        made = engine.containers.get("orphan")
        assert made.exec(["true"]).returncode == 0
        made.remove(force=True)


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


_WORKER = """
import sys
from fastdock import Engine
engine = Engine(sys.argv[1])
for number in range(int(sys.argv[2])):
    made = engine.containers.create("busybox", ["sleep", "1000"])
    made.start()
    assert made.exec(["true"]).returncode == 0
    made.pause()
    made.unpause()
    assert made.name in [each.name for each in engine.containers.list()]
    assert made.stop(0) == 137
    made.remove()
"""


class TestMany:
    def test_eight_processes_at_once(self, engine: Engine) -> None:
        """Created, started, entered, paused, stopped and removed: no error, no leak."""
        total = int(os.environ.get("FASTDOCK_MANY", "100"))
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", _WORKER, engine.root, str(total // 8 + 1)], stderr=subprocess.PIPE
            )
            for _ in range(8)
        ]
        errors = [worker.communicate()[1].decode() for worker in workers]
        assert errors == [""] * 8
        assert_nothing_left(engine)

    def test_monitors_stay_small(self, engine: Engine) -> None:
        """At most 0.5 MB each, whoever started them: they share one program's pages."""
        made = []
        try:
            for number in range(4):
                script = _START_ONE.format(name=f"small{number}")
                subprocess.run([sys.executable, "-c", script, engine.root], check=True)
                made.append(engine.containers.get(f"small{number}"))
            inodes, sizes = set(), []
            for each in made:
                monitor = each.state.monitor
                inodes.add(os.stat(f"/proc/{monitor}/exe").st_ino)
                rollup = Path(f"/proc/{monitor}/smaps_rollup").read_text()
                sizes.append(
                    int(next(line.split()[1] for line in rollup.splitlines() if line.startswith("Pss_Anon:")))
                )
            assert len(inodes) == 1
            assert max(sizes) < 400
        finally:
            for each in made:
                each.remove(force=True)

    def test_names_are_unique(self, engine: Engine) -> None:
        """Eight that want one name at once: one gets it, and the others leave nothing."""

        def take(_: int) -> bool:
            try:
                engine.containers.create("busybox", SLEEP, name="wanted")
            except FastdockError:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(take, range(8))) == 1
        engine.containers.get("wanted").remove()
        assert_nothing_left(engine)


class TestUpgrade:
    def test_old_state_files_are_read(self, engine: Engine) -> None:
        """A monitor of another version may write fewer members, or more."""
        with container(engine) as made:
            made.stop(0)
            path = Path(made.directory, "state.json")
            document = json.loads(path.read_text())
            del document["restart_count"]
            document["from_the_future"] = 1
            path.write_text(json.dumps(document))
            assert made.state.exit_code == 137
