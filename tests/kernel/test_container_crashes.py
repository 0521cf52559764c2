"""SIGKILL at any moment, of monitors and of callers: afterwards the next command shows the truth."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from kept import SLEEP, START_ONE, assert_nothing_left, cgroups, container, kill_monitor, shell

from fastdock import Conflict, Container, ContainerNotFound, ContainerNotRunning, Engine

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
        script = START_ONE.format(name="orphan") + "import os; os.kill(os.getpid(), 9)"
        subprocess.run([sys.executable, "-c", script, engine.root], check=False)
        made = engine.containers.get("orphan")
        assert made.exec(["true"]).returncode == 0
        made.remove(force=True)
