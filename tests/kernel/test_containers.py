"""Containers that outlive their caller: their life from create to rm."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from kept import SLEEP, container, output_of, shell, wait_until

from fastdock import (
    PIPE,
    Conflict,
    Container,
    ContainerNotFound,
    ContainerNotRunning,
    Engine,
    KernelError,
    SpecError,
    TimeoutExpired,
    _core,
)
from fastdock.containers import control
from support import busybox_tar

pytestmark = pytest.mark.kernel


class TestLife:
    def test_created_running_exited_removed(self, engine: Engine) -> None:
        made = engine.containers.create("busybox", shell("echo hello; exit 3"), name="life")
        assert made.status == "created"
        made.start()
        assert made.wait() == 3
        state = made.state
        assert (state.status, state.exit_code, state.pid) == ("exited", 3, 0)
        assert state.started_at < state.finished_at
        assert output_of(made) == b"hello\n"
        made.remove()
        with pytest.raises(ContainerNotFound):
            engine.containers.get("life")

    def test_is_no_child_of_its_starter(self, engine: Engine) -> None:
        with container(engine) as made:
            monitor = Path(f"/proc/{made.state.monitor}/status").read_text()
            assert f"PPid:\t{os.getpid()}\n" not in monitor
            assert f"PPid:\t{made.state.monitor}\n" in Path(f"/proc/{made.pid}/status").read_text()

    def test_starts_again_with_its_files(self, engine: Engine) -> None:
        with container(engine, shell("echo more >> /root/log; wc -l < /root/log")) as made:
            made.wait()
            made.start()
            made.wait()
            assert output_of(made) == b"1\n2\n"

    def test_found_by_name_id_and_prefix(self, engine: Engine) -> None:
        with container(engine, name="findme") as made:
            for reference in ("findme", "/findme", made.id, made.id[:12]):
                assert engine.containers.get(reference).id == made.id
            with pytest.raises(ContainerNotFound):
                engine.containers.get("")

    def test_name_is_taken(self, engine: Engine) -> None:
        with container(engine, name="taken") as made:
            with pytest.raises(Conflict, match=made.id):
                engine.containers.create("busybox", SLEEP, name="taken")
            made.rename("other")
            with container(engine, name="taken"):
                assert engine.containers.get("other").id == made.id

    def test_program_that_is_not_there(self, engine: Engine) -> None:
        made = engine.containers.create("busybox", ["nosuchprogram"])
        with pytest.raises(FileNotFoundError, match="no such program"):
            made.start()
        assert (made.status, made.state.exit_code) == ("created", 127)
        assert "no such program" in made.state.error
        made.remove()

    def test_stop_and_its_signal(self, engine: Engine) -> None:
        script = "trap 'echo got; exit 5' USR1; echo ready; while :; do sleep 0.05; done"
        with container(engine, shell(script), stop_signal="SIGUSR1") as made:
            made.wait_for(log="ready", timeout=60)
            assert made.stop() == 5
            assert output_of(made) == b"ready\ngot\n"
            assert made.stop() == 5  # nothing to do

    def test_stop_kills_after_its_time(self, engine: Engine) -> None:
        with container(engine) as made:  # process 1 gets no signal that it does not wait for
            assert made.stop(0.05) == 137

    def test_kill(self, engine: Engine) -> None:
        with container(engine) as made:
            with pytest.raises(SpecError):
                made.kill("SIGNONSENSE")
            made.kill()
            assert made.wait() == 137
            with pytest.raises(ContainerNotRunning):
                made.kill()

    def test_wait_has_a_timeout(self, engine: Engine) -> None:
        with container(engine) as made, pytest.raises(TimeoutExpired):
            made.wait(0.01)

    def test_remove_needs_force(self, engine: Engine) -> None:
        with container(engine) as made:
            with pytest.raises(Conflict, match="running"):
                made.remove()
            made.remove(force=True)
            assert not os.path.exists(made.directory)
            assert not os.path.exists(made.run_directory)

    def test_auto_remove(self, engine: Engine) -> None:
        made = engine.containers.create("busybox", ["true"], auto_remove=True, name="gone")
        connection = made.start(attach=control.ATTACH_OUTPUT)
        assert connection is not None
        with connection:
            connection.wait_for_end()
        assert not os.path.exists(made.directory)
        assert "gone" not in [each.name for each in engine.containers]
        engine.containers.create("busybox", ["true"], name="gone").remove()

    def test_context_manager(self, engine: Engine) -> None:
        with Container("busybox", SLEEP, engine=engine) as made:
            assert made.status == "running"
        with pytest.raises(ContainerNotFound):
            engine.containers.get(made.id)

    def test_pause(self, engine: Engine) -> None:
        with container(engine) as made:
            made.pause()
            assert made.status == "paused"
            with pytest.raises(Conflict):
                made.pause()
            with pytest.raises(ContainerNotRunning):
                made.exec(["true"])
            made.unpause()
            assert made.exec(["true"]).returncode == 0
            made.pause()
            assert made.stop(0) == 137

    def test_two_starts_at_once(self, engine: Engine) -> None:
        made = engine.containers.create("busybox", SLEEP)
        threads = [threading.Thread(target=made.start) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert made.status == "running"
        made.remove(force=True)

    def test_restart_policy_counts(self, engine: Engine) -> None:
        with container(engine, shell("echo run; exit 9"), restart="on-failure:2") as made:
            wait_until(made, lambda: made.status == "exited")
            assert made.state.restart_count == 2
            assert output_of(made) == b"run\nrun\nrun\n"

    def test_stop_ends_restarting(self, engine: Engine) -> None:
        with container(engine, ["false"], restart="always") as made:
            wait_until(made, lambda: made.status == "restarting")
            made.stop()
            assert made.status == "exited"

    def test_restart_policy_and_rm_contradict(self, engine: Engine) -> None:
        with pytest.raises(SpecError):
            engine.containers.create("busybox", SLEEP, restart="always", auto_remove=True)

    def test_oom(self, engine: Engine) -> None:
        eat = shell("x=a; while :; do x=$x$x; done")
        with container(engine, eat, memory="16m", memory_swap="16m") as made:
            assert made.wait() == 137
            assert made.state.oom_killed

    def test_prune(self, engine: Engine) -> None:
        with container(engine) as runs:
            done = engine.containers.create("busybox", ["true"])
            removed, _ = engine.containers.prune()
            assert done.id in removed
            assert runs.status == "running"


class TestHealth:
    def test_becomes_healthy_and_unhealthy(self, engine: Engine) -> None:
        options = {"health_cmd": "test -e /tmp/good", "health_interval": 0.05, "health_retries": 2}
        with container(engine, **options) as made:
            wait_until(made, lambda: (made.state.health or {}).get("status") == "unhealthy")
            made.write_bytes("/tmp/good", b"")
            made.wait_until_healthy(60)
            log = (made.state.health or {})["log"]
            assert log[-1]["ExitCode"] == 0
            assert len(log) <= 5

    def test_timeout_kills_the_probe(self, engine: Engine) -> None:
        options = {
            "health_cmd": "sleep 500",
            "health_interval": 0.05,
            "health_timeout": 0.05,
            "health_retries": 1,
        }
        with container(engine, **options) as made:
            wait_until(made, lambda: (made.state.health or {}).get("status") == "unhealthy")
            assert "exceeded timeout" in (made.state.health or {})["log"][-1]["Output"]


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


class TestLogs:
    def test_lines_are_dockers(self, engine: Engine) -> None:
        with container(engine, shell("printf 'a<b>&\"\\\\\\t\\n'; printf rest")) as made:
            made.wait()
            lines = [
                json.loads(line)
                for line in Path(engine.containers.log_path(made.id)).read_text().splitlines()
            ]
            assert [(line["log"], line["stream"]) for line in lines] == [
                ('a<b>&"\\\t\n', "stdout"),
                ("rest", "stdout"),
            ]
            raw = Path(engine.containers.log_path(made.id)).read_text()
            assert "a\\u003cb\\u003e\\u0026" in raw
            assert set(lines[0]) == {"log", "stream", "time"}

    def test_bytes_are_kept(self, engine: Engine) -> None:
        with container(engine, shell("printf '\\377\\000\\001x\\n'")) as made:
            made.wait()
            assert output_of(made) == b"\xff\x00\x01x\n"

    def test_long_lines(self, engine: Engine) -> None:
        with container(
            engine, shell("yes x | head -c 100000 | { while read a; do printf x; done; }; echo")
        ) as made:
            made.wait()
            assert output_of(made) == b"x" * 50000 + b"\n"
            assert max(len(entry.data) for entry in made.logs()) == 16384

    def test_tail_since_streams(self, engine: Engine) -> None:
        with container(engine, shell("for i in 1 2 3 4; do echo $i; done; echo e >&2")) as made:
            made.wait()
            assert [e.data for e in made.logs(tail=2, stderr=False)] in ([b"3\n", b"4\n"], [b"4\n"])
            assert [e.data for e in made.logs(tail=0)] == []
            assert [e.data for e in made.logs(stdout=False)] == [b"e\n"]
            assert list(made.logs(since=time.time() + 100)) == []
            assert len(list(made.logs(until=time.time() + 100))) == 5

    def test_follow_to_the_end(self, engine: Engine) -> None:
        with container(engine, shell("echo 1; read x; echo 2; exit 0"), open_stdin=True) as made:
            follower = made.logs(follow=True)
            assert next(follower).data == b"1\n"
            with made._connect() as connection:
                connection.send(control.ATTACH, control.ATTACH_INPUT)
                connection.send(control.INPUT, payload=b"\n")
                assert [entry.data for entry in follower] == [b"2\n"]

    def test_rotation(self, engine: Engine) -> None:
        script = "i=0; while test $i -lt 3000; do echo line $i; i=$((i+1)); done"
        with container(engine, shell(script), log_opt={"max-size": "64k", "max-file": "2"}) as made:
            made.wait()
            files = [f for f in os.listdir(made.directory) if "-json.log" in f]
            assert len(files) == 2
            assert all(os.path.getsize(f"{made.directory}/{f}") <= 64 << 10 for f in files)
            kept = output_of(made).split(b"\n")
            assert kept[-2] == b"line 2999"
            assert len(kept) < 3000

    def test_followed_over_several_rotations(self, engine: Engine) -> None:
        """The reader misses nothing that is still there, however far the files have moved on."""
        script = "read go; i=0; while test $i -lt 1500; do echo line $i; i=$((i+1)); done"
        options = {"log_opt": {"max-size": "32k", "max-file": "9"}, "open_stdin": True}
        with container(engine, shell("echo begin; " + script), **options) as made:
            made.wait_for(log="begin", timeout=60)
            follower = made.logs(follow=True)
            assert next(follower).data == b"begin\n"
            with made._connect() as connection:
                connection.send(control.ATTACH, control.ATTACH_INPUT)
                connection.send(control.INPUT, payload=b"\n")
                made.wait(60)
            assert len([f for f in os.listdir(made.directory) if "-json.log" in f]) > 3
            assert [entry.data for entry in follower] == [b"line %d\n" % i for i in range(1500)]

    def test_local_is_compressed(self, engine: Engine) -> None:
        script = "i=0; while test $i -lt 3000; do echo line $i; i=$((i+1)); done; sleep 1000"
        options = {"log_driver": "local", "log_opt": {"max-size": "64k", "max-file": "9"}}
        with container(engine, shell(script), **options) as made:
            made.wait_for(log="line 2999", timeout=60)
            wait_until(made, lambda: any(f.endswith(".1.gz") for f in os.listdir(made.directory)))
            assert len(output_of(made).splitlines()) == 3000

    def test_full_disk(self, engine: Engine, tmp_path: Path) -> None:
        """Log lines are lost, never the container; and commands still work."""
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "full", str(tmp_path)], check=True)
        try:
            with Engine(tmp_path / "root") as small:
                small.images.import_tar(io.BytesIO(busybox_tar()), "busybox")
                script = "i=0; while test $i -lt 40; do seq 100000; i=$((i+1)); done; exit 7"
                # Linux maps the ids of a tmpfs from 6.3 on.
                options = {"log_opt": {"max-size": "-1"}, "network": "none", "userns": "host"}
                with container(small, shell(script), **options) as made:
                    assert made.wait(60) == 7
                    status = os.statvfs(tmp_path)
                    assert status.f_bavail * status.f_frsize < 2 << 20
                    assert next(made.logs()).data == b"1\n"
                    small.close()
                    with Engine(tmp_path / "root") as fresh:
                        again = fresh.containers.create("busybox", ["true"], network="none", userns="host")
                        again.start()
                        assert again.wait() == 0
                        again.remove()
        finally:
            _core.release_kept()
            subprocess.run(["umount", str(tmp_path)], check=True)

    def test_none(self, engine: Engine) -> None:
        with container(engine, ["echo", "x"], log_driver="none") as made:
            made.wait()
            with pytest.raises(SpecError):
                list(made.logs())


class TestLimits:
    def test_update(self, engine: Engine) -> None:
        with container(engine, memory="64m") as made:
            made.update(memory="128m", pids=77)
            stats = made.stats()
            assert (stats["memory_limit"], stats["pids_limit"]) == (128 << 20, 77)
            made.update(memory="32m", memory_swap="32m")
            assert made.stats()["memory_limit"] == 32 << 20
            again = engine.containers.get(made.id)
            assert again.inspect()["HostConfig"]["Memory"] == 32 << 20
            made.stop(0)
            made.start()
            assert made.stats()["memory_limit"] == 32 << 20
            with pytest.raises(SpecError):
                made.update(image="x")

    def test_top(self, engine: Engine) -> None:
        with container(engine) as made:
            headings, rows = made.top()
            assert "PID" in headings
            assert [row[-1] for row in rows] == ["sleep 1000"]


class TestEvents:
    def test_a_life(self, engine: Engine) -> None:
        began = time.time()
        with container(engine, labels={"color": "blue"}) as made:
            made.pause()
            made.unpause()
            made.rename("renamed")
            made.stop(0)
        actions = [e["Action"] for e in made.events(since=began, until=time.time())]
        assert actions == ["create", "start", "pause", "unpause", "rename", "kill", "die", "stop", "destroy"]

    def test_followed_from_another_thread(self, engine: Engine) -> None:
        with container(engine) as made:
            events = made.events(since=time.time())
            thread = threading.Thread(target=made.kill)
            thread.start()
            assert next(events)["Action"] == "kill"
            assert next(events)["Action"] == "die"
            thread.join()


class TestInspect:
    def test_what_docker_says(self, engine: Engine) -> None:
        with container(
            engine, shell("sleep 1000"), name="inspected", env={"A": "b"}, restart="always"
        ) as made:
            document = made.inspect()
            assert document["Name"] == "/inspected"
            assert document["State"]["Running"] is True
            assert document["HostConfig"]["RestartPolicy"] == {"Name": "always", "MaximumRetryCount": 0}
            assert "A=b" in document["Config"]["Env"]
            assert document["Config"]["Cmd"] == ["sh", "-c", "sleep 1000"]
            json.dumps(document)

    def test_commit(self, engine: Engine) -> None:
        with container(engine) as made:
            made.write_bytes("/root/file", b"kept")
            image = made.commit("committed:1")
        done = engine.run("committed:1", ["cat", "/root/file"], stdout=PIPE)
        assert done.stdout == b"kept"
        image.remove(force=True)
        engine.close()

    def test_diff(self, engine: Engine) -> None:
        with container(engine) as made:
            made.exec(shell("touch /root/new; rm /etc/group"))
            assert set(made.diff()) >= {("A", "/root/new"), ("D", "/etc/group"), ("C", "/root")}
