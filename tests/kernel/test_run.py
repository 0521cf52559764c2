"""`fastdock.run` and `Popen`: a container as one would use a process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import fastdock
from fastdock import PIPE, Engine

pytestmark = pytest.mark.kernel


def shell(engine: Engine, script: str, **options: object) -> str:
    """The output of a script in the image busybox; it must succeed."""
    done = engine.run("busybox", ["sh", "-c", script], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


class TestStreams:
    def test_output_and_code(self, engine: Engine) -> None:
        done = engine.run("busybox", ["sh", "-c", "echo out; echo err >&2; exit 7"], capture_output=True)
        assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")

    def test_input(self, engine: Engine) -> None:
        data = os.urandom(3_000_000)
        assert engine.run("busybox", ["cat"], input=data, stdout=PIPE).stdout == data

    def test_text_universal_newlines(self, engine: Engine) -> None:
        done = engine.run("busybox", ["cat"], input="ä\r\nb\n", stdout=PIPE, text=True)
        assert done.stdout == "ä\nb\n"

    def test_stderr_to_stdout(self, engine: Engine) -> None:
        done = engine.run("busybox", ["sh", "-c", "echo a; echo b >&2"], stdout=PIPE, stderr=fastdock.STDOUT)
        assert done.stdout == b"a\nb\n"

    def test_devnull(self, engine: Engine) -> None:
        done = engine.run("busybox", ["cat"], stdin=fastdock.DEVNULL, stdout=PIPE)
        assert done.stdout == b""

    def test_file(self, engine: Engine, tmp_path: object) -> None:
        path = f"{tmp_path}/out"
        with open(path, "wb") as file:
            engine.run("busybox", ["echo", "hello"], stdout=file)
        assert Path(path).read_text() == "hello\n"

    def test_dev_stdout_can_be_opened_again(self, engine: Engine) -> None:
        """Images log to /dev/stdout (nginx does), also as a user who is not root."""
        assert shell(engine, "echo logged > /dev/stdout") == "logged\n"
        assert shell(engine, "echo logged > /dev/stdout", user="web") == "logged\n"

    def test_popen_talks(self, engine: Engine) -> None:
        with engine.Popen("busybox", ["cat"], stdin=PIPE, stdout=PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"ping\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"ping\n"
            process.stdin.close()
        assert process.returncode == 0


class TestEnds:
    def test_timeout_kills_everything_and_keeps_the_output(self, engine: Engine) -> None:
        with pytest.raises(fastdock.TimeoutExpired) as caught:
            engine.run(
                "busybox", ["sh", "-c", "echo first; sleep 1000 & sleep 1000"], stdout=PIPE, timeout=0.5
            )
        assert caught.value.output == b"first\n"
        assert isinstance(caught.value, subprocess.TimeoutExpired)

    def test_check(self, engine: Engine) -> None:
        with pytest.raises(subprocess.CalledProcessError) as caught:
            engine.run("busybox", ["false"], check=True)
        assert isinstance(caught.value, fastdock.FastdockError)
        assert caught.value.returncode == 1

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_signals_become_negative_codes(self, engine: Engine, number: signal.Signals) -> None:
        with engine.Popen("busybox", ["sh", "-c", "trap - TERM; echo ready; exec sleep 1000"], stdout=PIPE,
                          init=True) as process:  # fmt: skip
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(number)
            process.wait()
        # An init passes on how its child ended; SIGKILL ends the init itself.
        assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)

    def test_poll_and_wait_from_several_threads(self, engine: Engine) -> None:
        with engine.Popen("busybox", ["cat"], stdin=PIPE) as process:
            assert process.poll() is None
            with ThreadPoolExecutor(4) as pool:
                waits = [pool.submit(process.wait) for _ in range(4)]
                assert process.stdin is not None
                process.stdin.close()
                assert [wait.result() for wait in waits] == [0] * 4

    def test_usage(self, engine: Engine) -> None:
        done = engine.run("busybox", ["sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"])
        assert 0 < done.usage.cpu <= done.usage.wall * (os.cpu_count() or 1)
        assert done.usage.memory_peak is None or 0 < done.usage.memory_peak < 2**30
        assert not done.usage.oom_killed

    def test_dies_with_its_owner(self, engine: Engine) -> None:
        """SIGKILL of the embedding program takes the container with it."""
        program = (
            f"import fastdock, os, signal\n"
            f"p = fastdock.Engine({engine.root!r}).Popen('busybox', ['sleep', '1000'])\n"
            f"print(p.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert done.returncode == -signal.SIGKILL
        _wait_until_gone(int(done.stdout))
        Engine(engine.root).close()  # removes what it left: the leak check looks for it

    def test_outlives_the_thread_that_started_it(self, engine: Engine) -> None:
        """PR_SET_PDEATHSIG is about threads (prctl(2))."""
        started: list[fastdock.Popen] = []
        thread = threading.Thread(target=lambda: started.append(engine.Popen("busybox", ["cat"], stdin=PIPE)))
        thread.start()
        thread.join()
        process = started[0]
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0


def _wait_until_gone(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        import select

        assert select.select([descriptor], [], [], 20)[0], f"process {pid} is still there"
    finally:
        os.close(descriptor)


class TestIsolation:
    def test_everything_is_its_own(self, engine: Engine) -> None:
        lines = shell(
            engine,
            "echo $$; hostname; ls /sys/class/net; ps -o pid | wc -l; for n in /proc/1/ns/*; do readlink $n; done",
        ).split()
        assert lines[0] == "1"
        assert lines[1] != socket.gethostname()
        assert lines[2] == "lo"
        for name in ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts"):
            theirs = next(line for line in lines[3:] if line.startswith(name + ":"))
            assert theirs != os.readlink(f"/proc/self/ns/{name}")

    def test_loopback_is_up(self, engine: Engine) -> None:
        assert "inet 127.0.0.1" in shell(engine, "ip addr show lo")

    def test_root_inside_is_nobody_outside(self, engine: Engine) -> None:
        with engine.Popen("busybox", ["sh", "-c", "id -u; read x"], stdin=PIPE, stdout=PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"0\n"
            uid = os.stat(f"/proc/{process.pid}").st_uid
            assert uid >= 0x70000000
            assert process.stdin is not None
            process.stdin.close()

    def test_two_containers_have_different_ids(self, engine: Engine) -> None:
        with (
            engine.Popen("busybox", ["cat"], stdin=PIPE) as one,
            engine.Popen("busybox", ["cat"], stdin=PIPE) as two,
        ):
            uids = {os.stat(f"/proc/{process.pid}").st_uid for process in (one, two)}
            assert len(uids) == 2
            for process in (one, two):
                assert process.stdin is not None
                process.stdin.close()

    def test_docker_s_14_capabilities(self, engine: Engine) -> None:
        status = shell(engine, "grep ^Cap /proc/self/status")
        assert dict(line.split() for line in status.splitlines()) == {
            "CapInh:": "0" * 16, "CapPrm:": "00000000a80425fb", "CapEff:": "00000000a80425fb",
            "CapBnd:": "00000000a80425fb", "CapAmb:": "0" * 16,
        }  # fmt: skip

    def test_seccomp_is_on(self, engine: Engine) -> None:
        assert shell(engine, "grep ^Seccomp: /proc/self/status").split()[1] == "2"

    def test_what_it_writes_is_gone(self, engine: Engine) -> None:
        shell(engine, "echo x > /mine")
        assert "mine" not in shell(engine, "ls /")
        shell(engine, "echo x > /mine; rm -r /etc; mkdir /etc; ls /etc", storage="disk")
        assert "passwd" in shell(engine, "ls /etc", storage="disk")


class TestManyAtOnce:
    def test_threads(self, engine: Engine) -> None:
        with ThreadPoolExecutor(4) as pool:
            done = pool.map(lambda n: engine.run("busybox", ["echo", str(n)], stdout=PIPE).stdout, range(24))
            assert list(done) == [f"{n}\n".encode() for n in range(24)]

    def test_after_fork(self, engine: Engine) -> None:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = engine.run("busybox", ["sh", "-c", "exit 5"]).returncode
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
        assert engine.run("busybox", ["true"]).returncode == 0
        Engine(engine.root).close()

    def test_a_stranger_s_wait_does_not_confuse(self, engine: Engine) -> None:
        """The embedding program may wait for any child; the status is still known (Linux 6.15)."""
        process = engine.Popen("busybox", ["sh", "-c", "exit 9"])
        os.waitpid(process.pid, 0)
        if os.uname().release >= "6.15":
            assert process.wait() == 9
        else:
            with pytest.raises(fastdock.KernelError):
                process.wait()


class TestAsync:
    async def test_run(self, engine: Engine) -> None:
        done = await fastdock.aio.run(
            "busybox",
            ["sh", "-c", "cat; exit 3"],
            input="hello",
            capture_output=True,
            text=True,
            engine=engine,
        )
        assert (done.returncode, done.stdout) == (3, "hello")

    async def test_timeout(self, engine: Engine) -> None:
        with pytest.raises(fastdock.TimeoutExpired) as caught:
            await fastdock.aio.run(
                "busybox",
                ["sh", "-c", "echo first; sleep 1000"],
                capture_output=True,
                timeout=1.0,
                engine=engine,
            )
        assert caught.value.output == b"first\n"

    async def test_no_thread_for_each(self, engine: Engine) -> None:
        import asyncio

        processes = [
            await fastdock.aio.Popen.start("busybox", ["cat"], stdin=PIPE, engine=engine) for _ in range(8)
        ]
        assert threading.active_count() < 8 + 8
        waits = [asyncio.ensure_future(process.wait()) for process in processes]
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
        assert await asyncio.gather(*waits) == [0] * 8


def test_wait_is_interrupted_by_a_signal_handler(engine: Engine) -> None:
    class Rang(Exception):
        pass

    def ring(*_: object) -> None:
        raise Rang

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with engine.Popen("busybox", ["cat"], stdin=PIPE) as process:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(Rang):
                process.wait()
            assert process.stdin is not None
            process.stdin.close()
    finally:
        signal.signal(signal.SIGALRM, before)


FORKS = """
import os, sys, fastdock
engine = fastdock.Engine(sys.argv[1])
pool = fastdock.Pool("busybox", size=1, engine=engine)
process = engine.Popen("busybox", ["cat"], stdin=fastdock.PIPE, stdout=fastdock.PIPE)
child = os.fork()
if child == 0:
    process.stdin.close()
    ended = pool.run(["sh", "-c", "exit 7"]).returncode
    sys.exit(ended)  # with all that an interpreter does at its end
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), process.poll(), pool.ready)
print(process.communicate(b"still here"), process.returncode, pool.run(["sh", "-c", "exit 8"]).returncode)
"""


def test_a_forked_process_ends_none_of_its_parents(engine: Engine, session_root: Path) -> None:
    """As with subprocess: what the parent has started is the parent's."""
    words = [sys.executable, "-c", FORKS, str(session_root)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("7 None 1\n(b'still here', None) 0 8\n", "")
