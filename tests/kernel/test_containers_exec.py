"""Further processes in kept containers, and what is attached to them."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from kept import SLEEP, container, output_of, shell

from fastdock import (
    PIPE,
    ContainerNotRunning,
    Engine,
    KernelError,
    TimeoutExpired,
)
from fastdock.containers import control

pytestmark = pytest.mark.kernel


class TestExec:
    def test_streams_and_code(self, engine: Engine) -> None:
        with container(engine) as made:
            done = made.exec(shell("cat; echo err >&2; exit 4"), input=b"in", capture_output=True)
            assert (done.returncode, done.stdout, done.stderr) == (4, b"in", b"err\n")

    def test_user_environment_directory(self, engine: Engine) -> None:
        with container(engine, env={"A": "1"}) as made:
            script = "id -u; id -g; echo $A $B; pwd"
            done = made.exec(
                shell(script), env={"B": "2"}, user="web", cwd="/var/www", stdout=PIPE, text=True
            )
            assert done.stdout.split() == ["33", "34", "1", "2", "/var/www"]

    def test_same_confinement_as_the_container(self, engine: Engine) -> None:
        read = shell(
            "grep -E '^(Cap|Seccomp|NoNewPrivs)' /proc/self/status; cat /proc/self/cgroup; readlink /proc/self/ns/*"
        )
        script = f"{read[2]}; echo end; sleep 1000"
        with container(engine, shell(script), cap_drop=["CHOWN"], security_opt=["no-new-privileges"]) as made:
            made.wait_for(log="^end", timeout=60)
            first = output_of(made).decode().replace("end\n", "")
            assert made.exec(read, stdout=PIPE, text=True).stdout == first

    def test_privileged(self, engine: Engine) -> None:
        with container(engine) as made:
            done = made.exec(
                shell("grep -E '^(CapEff|Seccomp:)' /proc/self/status"),
                privileged=True,
                stdout=PIPE,
                text=True,
            )
            assert done.stdout.split() == ["CapEff:", "000001ffffffffff", "Seccomp:", "0"]

    def test_limits_hold(self, engine: Engine) -> None:
        with container(engine, memory="32m", memory_swap="32m") as made:
            done = made.exec(shell("x=a; while :; do x=$x$x; done"))
            assert done.returncode == -signal.SIGKILL
            assert made.status == "running"

    def test_timeout_kills_all_that_it_started(self, engine: Engine) -> None:
        with container(engine) as made:
            with pytest.raises(TimeoutExpired):
                made.exec(shell("sleep 500 & sleep 500 & wait"), timeout=0.2)
            assert made.exec(["ps"], stdout=PIPE, text=True).stdout.count("sleep 500") == 0

    def test_nobody_waits_for_it(self, engine: Engine) -> None:
        """The container's end waits for all of its processes: also for those that their starter has forgotten."""
        with container(engine) as made:
            process = made.popen(SLEEP)
            made.popen(SLEEP)
            made.stop(0)
            assert process.wait(60) == -signal.SIGKILL
            made.start()
            forgotten = made.popen(SLEEP)
            made.remove(force=True)
            assert forgotten.wait(60) == -signal.SIGKILL

    def test_interrupted_wait_goes_on(self, engine: Engine) -> None:
        got: list[int] = []
        before = signal.signal(signal.SIGUSR1, lambda number, _: got.append(number))
        try:
            with container(engine) as made:
                process = made.popen(["sh", "-c", "read line"], stdin=PIPE)
                timer = threading.Timer(
                    0.1, lambda: (os.kill(os.getpid(), signal.SIGUSR1), process.stdin.close())
                )
                timer.start()
                assert process.wait(60) == 1
                timer.join()
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert got == [signal.SIGUSR1]

    def test_detached(self, engine: Engine) -> None:
        from fastdock.containers.execution import detached

        with container(engine) as made:
            detached(made, shell("echo done > /tmp/mark; echo done > /tmp/mark2"))
            events = made.events(since=0)
            assert (
                next(e for e in events if e["Action"] == "exec_die")["Actor"]["Attributes"]["exitCode"] == "0"
            )
            assert made.read_bytes("/tmp/mark") == b"done\n"

    @pytest.mark.parametrize(
        ("script", "code"), [("exit 3", "3"), ("kill -9 $$", "137")], ids=["ended", "killed"]
    )
    @pytest.mark.parametrize("kind", ["exec", "popen", "detached"])
    def test_events(self, engine: Engine, kind: str, script: str, code: str) -> None:
        """Docker's three, with one execID, and the container's own attributes."""
        from fastdock.containers.execution import detached

        with container(engine, labels={"l": "1"}) as made:
            for _ in range(2):
                if kind == "exec":
                    made.exec(shell(script))
                elif kind == "popen":
                    made.popen(shell(script)).wait()
                else:
                    detached(made, shell(script))
            found = []
            for event in made.events(since=0):
                if event["Action"].startswith("exec_"):
                    found.append(event)
                if sum(event["Action"] == "exec_die" for event in found) == 2:
                    break
            ids = {event["Actor"]["Attributes"]["execID"] for event in found}
            assert len(ids) == 2
            for number in ids:
                own = [e for e in found if e["Actor"]["Attributes"]["execID"] == number]
                words = f"sh -c {script}"
                assert [e["Action"] for e in own] == [
                    f"exec_create: {words}", f"exec_start: {words}", "exec_die",
                ]  # fmt: skip
                assert own[-1]["Actor"]["Attributes"]["exitCode"] == code
                attributes = {"image": "busybox", "name": made.name, "l": "1"}
                assert all(e["Actor"]["Attributes"].items() >= attributes.items() for e in own)

    def test_no_place_for_events(self, engine: Engine) -> None:
        """What cannot be written is no reason for a command to fail."""
        with container(engine) as made:
            events = Path(engine.root, "events")
            events.rename(events.with_suffix(".away"))
            try:
                events.mkdir()
                assert made.exec(["true"]).returncode == 0
            finally:
                events.rmdir()
                events.with_suffix(".away").rename(events)

    def test_terminal(self, engine: Engine) -> None:
        with (
            container(engine) as made,
            made.popen(["tty"], tty=(24, 80), stdin=-3, stdout=-3, stderr=-3) as process,
        ):
            terminal = process.take_terminal()
            assert os.read(terminal, 100).startswith(b"/dev/pts/")
            process.wait()
            os.close(terminal)

    def test_program_missing(self, engine: Engine) -> None:
        with container(engine) as made, pytest.raises(FileNotFoundError):
            made.exec(["nosuchprogram"])

    def test_not_running(self, engine: Engine) -> None:
        made = engine.containers.create("busybox", SLEEP)
        with pytest.raises(ContainerNotRunning):
            made.exec(["true"])
        made.remove()

    def test_cannot_reach_our_program(self, engine: Engine) -> None:
        """CVE-2019-5736: what the container finds as /proc/PID/exe of who enters it is sealed, or out of reach."""
        script = "for i in $(ls /proc); do test -e /proc/$i/exe && echo x > /proc/$i/exe; done; true"
        with container(
            engine, shell(f"while :; do {script}; done 2>/dev/null"), userns="host", cap_add=["ALL"]
        ) as made:
            for _ in range(20):
                assert made.exec(["true"]).returncode == 0

    def test_no_descriptor_is_left_open(self, engine: Engine) -> None:
        """CVE-2024-21626."""
        with container(engine) as made:
            shown = made.exec(shell("ls /proc/self/fd"), stdout=PIPE, text=True).stdout.split()
            assert set(shown) <= {"0", "1", "2", "3"}  # 3 is ls's own


class TestAttach:
    def test_input_and_output(self, engine: Engine) -> None:
        with (
            container(engine, ["cat"], open_stdin=True, stdin_once=True) as made,
            made._connect() as connection,
        ):
            connection.send(control.ATTACH, control.ATTACH_INPUT | control.ATTACH_OUTPUT)
            assert connection.receive() == (control.DONE, 0, b"")
            connection.send(control.INPUT, payload=b"line\n")
            assert connection.receive() == (control.OUTPUT, 1, b"line\n")
            connection.send(control.INPUT_END)
            assert connection.receive() == (control.EXITED, 0, b"")

    def test_nothing_is_missed_from_the_start(self, engine: Engine) -> None:
        made = engine.containers.create("busybox", shell("echo first; echo second >&2"))
        connection = made.start(attach=control.ATTACH_OUTPUT | control.ATTACH_ERRORS)
        assert connection is not None
        packets = []
        with connection:
            while (packet := connection.receive()) is not None:
                packets.append(packet)
        assert (control.OUTPUT, 1, b"first\n") in packets
        assert (control.OUTPUT, 2, b"second\n") in packets
        assert packets[-1] == (control.EXITED, 0, b"")
        made.remove()

    def test_all_of_a_lot_of_output(self, engine: Engine) -> None:
        """A reader that reads gets every byte, also those that were written just before the end."""
        made = engine.containers.create(
            "busybox", shell("yes 0123456789 | head -c 5000000"), log_opt={"max-size": "-1"}
        )
        connection = made.start(attach=control.ATTACH_OUTPUT)
        assert connection is not None
        total = 0
        with connection:
            while (packet := connection.receive()) is not None:
                total += len(packet.payload) if packet.kind == control.OUTPUT else 0
        assert total == 5_000_000
        assert sum(len(entry.data) for entry in made.logs()) == 5_000_000
        made.remove()

    def test_stalled_reader_does_not_block(self, engine: Engine) -> None:
        """It loses output, is told how much, and the container goes on."""
        with container(
            engine, shell("read go; yes 0123456789 | head -c 2000000; echo end >&2"), open_stdin=True
        ) as made:
            with made._connect() as connection:
                connection.send(control.ATTACH, control.ATTACH_INPUT | control.ATTACH_OUTPUT)
                connection.send(control.INPUT, payload=b"go\n")
                assert made.wait(60) == 0
            assert output_of(made, 2) == b"end\n"
            assert len(output_of(made)) == 2_000_000

    def test_terminal_and_its_size(self, engine: Engine) -> None:
        made = engine.containers.create(
            "busybox", shell("stty size; read x; stty size"), tty=True, open_stdin=True
        )
        connection = made.start(attach=control.ATTACH_INPUT | control.ATTACH_OUTPUT, terminal=(24, 80))
        assert connection is not None
        with connection:
            seen = b""
            while b"24 80" not in seen:
                packet = connection.receive()
                assert packet is not None
                seen += packet.payload
            connection.send(control.RESIZE, 50 << 16 | 132)
            connection.send(control.INPUT, payload=b"\n")
            while (packet := connection.receive()) is not None:
                seen += packet.payload if packet.kind == control.OUTPUT else b""
        assert b"50 132" in seen
        made.remove()

    def test_only_the_owner_may_connect(self, engine: Engine) -> None:
        with container(engine) as made:
            path = f"{made.run_directory}/control"
            assert os.stat(path).st_mode & 0o777 == 0o600
            assert os.stat(made.run_directory).st_mode & 0o777 == 0o700

    def test_garbage_on_the_socket(self, engine: Engine) -> None:
        """The monitor drops who does not speak its language, and lives."""
        import socket as sockets

        with container(engine) as made:
            for packet in (b"x", b"\0" * 8, b"\xff" * 4000, b"\x0c\0\0\0\0\0\0\0", b"\x0a\0\0\0\0\0\0\0junk"):
                client = sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET)
                with made._connect() as connection:
                    connection._socket.send(packet)
                client.close()
            with pytest.raises(KernelError):
                made._ask(control.UPDATE, content=b"\xff" * 100)
            with pytest.raises(KernelError):
                made._ask(control.EXECUTE, content=b"\0" * 1000)
            assert made.exec(["true"]).returncode == 0
