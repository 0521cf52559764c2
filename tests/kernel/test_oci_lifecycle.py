"""fastdock-oci: the life of a container: run, create, start, signals, pause, delete."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from pathlib import Path

import pytest
from oci_bundle import Bundle, wait_for_end

pytestmark = pytest.mark.kernel


def test_run_gives_output_and_status(bundle: Bundle) -> None:
    bundle.shell("cat; echo out; echo err >&2; exit 7")
    done = bundle.run(stdin=None, input="in\n")
    assert (done.stdout, done.stderr, done.returncode) == ("in\nout\n", "err\n", 7)
    assert not (bundle.root / "c").exists()
    assert bundle.cgroups() == []


def test_run_of_a_killed_program(bundle: Bundle) -> None:
    """A program that ends by a signal gives 128 + its number."""
    bundle.shell("sh -c 'kill -9 $$'; exit $?")
    assert bundle.run().returncode == 137


def test_signals_are_forwarded(bundle: Bundle) -> None:
    bundle.shell("trap 'echo got; exit 5' USR1; echo ready; while :; do sleep 0.05; done")
    bundle.write()
    command = [bundle.runtime, "--root", str(bundle.root), "run", "--bundle", str(bundle.path), "c"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == "got\n"
        assert process.wait() == 5


def test_preserved_descriptors(bundle: Bundle) -> None:
    bundle.shell("cat <&3; ls /proc/self/fd | wc -l")
    read, write = os.pipe()
    os.write(write, b"hello\n")
    os.close(write)
    bundle.write()
    descriptor = os.dup2(read, 3) if read != 3 else 3
    done = bundle.run("c", "--preserve-fds", "1", pass_fds=[descriptor])
    assert done.stdout == "hello\n5\n", "0, 1, 2, 3, and ls's own"
    assert bundle.run("c", "--preserve-fds", "90").returncode == 1


def test_a_descriptor_to_be_preserved_is_the_callers(bundle: Bundle) -> None:
    """What the runtime itself has open under that number is not what was meant."""
    bundle.shell("exec sleep 1000")
    missing = "--preserve-fds: descriptor 3 is not open"
    refused = bundle.run("c", "--preserve-fds", "1")
    assert refused.returncode == 1
    assert missing in refused.stderr
    assert bundle.create("c").returncode == 0
    assert bundle.command("start", "c").returncode == 0
    refused = bundle.command("exec", "--preserve-fds", "1", "c", "/bin/true")
    assert refused.returncode == 255
    assert missing in refused.stderr
    bundle.command("delete", "--force", "c")


def test_create_start_kill_delete(bundle: Bundle, tmp_path: Path) -> None:
    bundle.shell("echo started > /tmp/file; trap 'exit 3' TERM; echo ready; sleep 1000 & wait")
    read, write = os.pipe()
    done = bundle.create("c", "--pid-file", str(tmp_path / "pid"), stdout=write)
    os.close(write)
    assert done.returncode == 0, done.stderr
    state = bundle.state()
    assert state["status"] == "created"
    assert state["pid"] == int((tmp_path / "pid").read_text())
    assert (state["id"], state["bundle"], state["rootfs"]) == ("c", str(bundle.path), str(bundle.rootfs))
    assert not (bundle.rootfs / "tmp/file").exists(), "the program waits for start"
    assert bundle.command("start", "c").returncode == 0
    assert os.read(read, 100) == b"ready\n"
    os.close(read)
    assert bundle.state()["status"] == "running"
    again = bundle.command("start", "c")
    assert again.returncode == 1
    assert "already running" in again.stderr
    refused = bundle.command("delete", "c")
    assert refused.returncode == 1
    assert "not stopped" in refused.stderr
    assert bundle.command("kill", "c", "TERM").returncode == 0
    wait_for_end(state["pid"])
    assert bundle.state() | {"pid": 0, "status": "stopped"} == bundle.state()
    assert "container not running" in bundle.command("kill", "c", "KILL").stderr
    assert bundle.command("delete", "c").returncode == 0
    assert "does not exist" in bundle.command("state", "c").stderr
    assert bundle.cgroups() == []


def test_delete_of_a_created_container(bundle: Bundle) -> None:
    """Never started: delete ends it."""
    assert bundle.create().returncode == 0
    pid = bundle.state()["pid"]
    assert bundle.command("delete", "c").returncode == 0
    wait_for_end(pid)
    assert bundle.cgroups() == []


def test_the_created_process_survives_its_creator(bundle: Bundle) -> None:
    """The parent's memory goes with it: what the child needs is its own (environment, arguments, working directory)."""
    bundle.config["process"].update(cwd="/tmp", env=["PATH=/bin", "GREETING=" + "x" * 5000])
    bundle.shell("pwd > /tmp/result; echo ${#GREETING} >> /tmp/result")
    assert bundle.create().returncode == 0
    pid = bundle.state()["pid"]
    assert bundle.command("start", "c").returncode == 0
    wait_for_end(pid)
    assert (bundle.rootfs / "tmp/result").read_text() == "/tmp\n5000\n"


def test_errors_of_create_come_from_create(bundle: Bundle) -> None:
    """A missing program is create's error, in runc's words, and not an exit status after start."""
    bundle.config["process"]["args"] = ["nosuch"]
    done = bundle.create()
    assert done.returncode == 1
    assert 'exec: "nosuch": executable file not found in $PATH' in done.stderr
    bundle.config["process"]["args"] = ["/tmp"]
    assert "permission denied" in bundle.create().stderr
    assert not (bundle.root / "c").exists()


def test_exec_format_error_after_start(bundle: Bundle) -> None:
    """What only execve can find out goes to the container's standard error."""
    (bundle.rootfs / "bin/strange").write_bytes(b"\x7fELF nothing")
    (bundle.rootfs / "bin/strange").chmod(0o755)
    bundle.config["process"]["args"] = ["/bin/strange"]
    assert bundle.create().returncode == 0
    pid = bundle.state()["pid"]
    bundle.command("start", "c")
    wait_for_end(pid)
    assert (bundle.path.parent / "stderr").read_text() == "exec /bin/strange: Exec format error\n"


@pytest.mark.parametrize("seccomp", [False, True])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_signals_to_a_created_container(bundle: Bundle, name: str, seccomp: bool) -> None:
    """It ends as its program would, though it is the first process of a PID namespace."""
    if seccomp:
        calls = {"names": ["sched_yield"], "action": "SCMP_ACT_ERRNO"}
        bundle.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [calls]}
    bundle.shell("sleep 1000")
    assert bundle.create().returncode == 0
    pidfd = os.pidfd_open(bundle.state()["pid"])
    signal.pidfd_send_signal(pidfd, getattr(signal, name))
    assert select.select([pidfd], [], [], 60)[0]
    os.close(pidfd)
    assert bundle.state()["status"] == "stopped"
    assert bundle.command("start", "c").returncode == 1
    assert bundle.command("delete", "c").returncode == 0


def test_pause_and_resume(bundle: Bundle) -> None:
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    assert bundle.command("pause", "c").returncode == 0
    assert bundle.state()["status"] == "paused"
    refused = bundle.command("exec", "c", "true")
    assert refused.returncode == 255
    assert "paused" in refused.stderr
    assert bundle.command("resume", "c").returncode == 0
    assert bundle.state()["status"] == "running"
    assert bundle.command("resume", "c").returncode == 1


def test_delete_of_a_paused_container(bundle: Bundle) -> None:
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    assert bundle.command("pause", "c").returncode == 0
    assert bundle.command("delete", "--force", "c").returncode == 0
    assert bundle.cgroups() == []


def test_force_delete_of_nothing(bundle: Bundle) -> None:
    assert bundle.command("delete", "--force", "never").returncode == 0
    assert bundle.command("delete", "never").returncode == 1


@pytest.mark.here
def test_killed_at_any_moment(bundle: Bundle) -> None:
    """After a SIGKILL of `create`, `delete --force` removes everything, whatever was reached."""
    bundle.write()
    command = [bundle.runtime, "--root", str(bundle.root), "create", "--bundle", str(bundle.path), "k"]
    for microseconds in range(0, 6000, 400):
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        subprocess.run(["sleep", str(microseconds / 1e6)], check=True)
        process.kill()
        process.wait()
        assert bundle.command("delete", "--force", "k").returncode == 0
        assert not (bundle.root / "k").exists()
