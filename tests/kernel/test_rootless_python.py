"""fastdock as an ordinary user: the Python API, and the holder of the namespaces behind it."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest
from ordinary_user import OrdinaryUser

pytestmark = [pytest.mark.kernel, pytest.mark.here]


def test_a_users_program_runs_containers_and_stays_as_it_is(user: OrdinaryUser) -> None:
    done = user.python("""
import os, threading, fastdock
got = []
def start(): got.append(fastdock.run("busybox", ["id", "-u"], capture_output=True, text=True).stdout)
threads = [threading.Thread(target=start) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert got == ["0\\n"] * 8, got
assert fastdock.run("busybox", ["sh", "-c", "exit 3"]).returncode == 3
for wanted, call in ((FileNotFoundError, lambda: fastdock.run("busybox", ["none"])),
                     (fastdock.ImageNotFound, lambda: fastdock.run("none", ["x"], pull="never")),
                     (fastdock.TimeoutExpired, lambda: fastdock.run("busybox", ["sleep", "60"], timeout=0.1)),
                     (fastdock.SpecError, lambda: fastdock.Pool("busybox")),
                     (PermissionError, lambda: fastdock.run("busybox", ["true"], memory="64m"))):
    try: call()
    except wanted: pass
    else: raise AssertionError(wanted)
process = fastdock.Popen("busybox", ["cat"], stdin=fastdock.PIPE, stdout=fastdock.PIPE, text=True)
assert process.communicate("through")[0] == "through" and process.returncode == 0
process = fastdock.Popen("busybox", ["sleep", "60"], user="33")
process.kill()
assert process.wait() == -9
if os.fork() == 0:
    os._exit(fastdock.run("busybox", ["true"]).returncode)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
print(os.getuid())
""")
    assert (done.returncode, done.stdout.strip()) == (0, str(user.uid)), done.stderr


def test_containers_end_with_the_users_program(user: OrdinaryUser) -> None:
    code = 'import fastdock, os; it = fastdock.Popen("busybox", ["sleep", "61"]); print("ready", flush=True); os.read(0, 1)'
    head = f"import sys; sys.path.insert(0, {str(user.place / 'site')!r})\n"
    process = user.start(user.interpreter, "-c", head + code, stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert "sleep 61" in user.processes().values()
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while "sleep 61" in user.processes().values() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "sleep 61" not in user.processes().values()


def test_enter_gives_everything_and_refuses_a_process_with_threads(user: OrdinaryUser) -> None:
    done = user.python("""
import os, threading, fastdock
from fastdock import rootless
stop = threading.Event()
thread = threading.Thread(target=stop.wait)
thread.start()
try: rootless.enter()
except fastdock.FastdockError as error: assert "before any thread" in str(error), error
else: raise AssertionError
try: fastdock.Engine().images
except fastdock.FastdockError as error: assert "rootless.enter()" in error.hint
else: raise AssertionError
stop.set()
thread.join()
rootless.enter()
rootless.enter()
engine = fastdock.Engine()
assert any(str(image).find("busybox") >= 0 for image in map(repr, engine.images.list()))
with fastdock.Container("busybox", ["sleep", "60"], network="none", engine=engine) as box:
    assert box.exec(["id", "-u"], capture_output=True, text=True).stdout == "0\\n"
print(os.getuid(), os.getcwd())
""")
    assert (done.returncode, done.stdout.split()) == (0, ["0", str(user.home)]), done.stderr


# --- the holder ---


def test_many_at_once_start_one_holder(user: OrdinaryUser) -> None:
    user.stop()
    starts = [
        user.start(*user.command, "run", "--rm", "--network", "none", "busybox", "true") for _ in range(8)
    ]
    assert [process.wait(60) for process in starts] == [0] * 8
    user.holder()


def test_a_killed_holder_is_replaced_and_containers_stay_reachable(user: OrdinaryUser) -> None:
    user.ok("run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "60")
    first = user.holder()
    os.kill(first, signal.SIGKILL)
    assert user.ok("exec", "box", "echo", "still").strip() == "still"
    assert user.holder() != first
    user.ok("rm", "-f", "box")


def test_a_holder_that_hangs_is_an_error_and_no_hang(user: OrdinaryUser) -> None:
    user.ok("run", "--rm", "--network", "none", "busybox", "true")
    holder = user.holder()
    os.kill(holder, signal.SIGSTOP)
    try:
        done = user.fastdock("ps")
        assert done.returncode == 125
        assert "does not answer" in done.stderr
    finally:
        os.kill(holder, signal.SIGCONT)
