"""fastdock-oci: exec, and the pidfds of what create and exec start."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from oci_bundle import Bundle, wait_for_end

pytestmark = pytest.mark.kernel


def test_exec(bundle: Bundle) -> None:
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    done = bundle.command(
        "exec", "--env", "A=b", "--cwd", "/tmp", "c", "sh", "-c", "echo $A $PWD $HOME $$; exit 9"
    )
    assert done.returncode == 9
    words = done.stdout.split()
    assert words[:3] == ["b", "/tmp", "/root"]
    assert int(words[3]) < 1000, "it is in the container's PID namespace"
    mine = bundle.command("exec", "c", "cat", "/proc/self/cgroup").stdout
    assert mine == bundle.command("exec", "c", "cat", "/proc/1/cgroup").stdout
    missing = bundle.command("exec", "c", "nosuch")
    assert missing.returncode == 255
    assert "executable file not found" in missing.stderr


def test_exec_of_a_process_file(bundle: Bundle, tmp_path: Path) -> None:
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    process = {
        "args": ["sh", "-c", "id -u; id -G; umask; pwd"],
        "cwd": "/home/app",
        "env": ["PATH=/bin"],
        "user": {"uid": 1000, "gid": 1000, "additionalGids": [7, 8], "umask": 0o27},
    }
    (tmp_path / "process.json").write_text(json.dumps(process))
    done = bundle.command("exec", "--process", str(tmp_path / "process.json"), "c")
    assert done.stdout.split() == ["1000", "1000", "7", "8", "0027", "/home/app"]


def test_detached_exec_writes_its_pid(bundle: Bundle, tmp_path: Path) -> None:
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    command = [
        bundle.runtime,
        "--root",
        str(bundle.root),
        "exec",
        "-d",
        "--pid-file",
        str(tmp_path / "pid"),
        "c",
    ]
    null = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    assert subprocess.run([*command, "sleep", "1000"], **null).returncode == 0
    pid = int((tmp_path / "pid").read_text())
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\0001000\0"
    listed = json.loads(bundle.command("ps", "--format", "json", "c").stdout)
    assert pid in listed
    assert str(pid) in bundle.command("ps", "c").stdout
    assert bundle.command("kill", "--all", "c", "KILL").returncode == 0
    wait_for_end(pid)


def test_exec_in_a_cgroup_below(bundle: Bundle) -> None:
    """`--cgroup path`, and on cgroup v1 for some controllers only."""
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    for place in bundle.cgroups():
        if "cpuset" not in place:  # on v1 nobody may enter a new one before it has processors
            (Path(place) / "below").mkdir()

    def cgroups(*flags: str) -> dict[str, str]:
        done = bundle.command("exec", *flags, "c", "cat", "/proc/self/cgroup")
        assert (done.returncode, done.stderr) == (0, ""), done
        return {line.split(":")[1]: line.split(":")[2] for line in done.stdout.splitlines()}

    try:
        assert set(cgroups("--cgroup", "below").values()) >= {"/below"}
        assert "/below" not in cgroups("--cgroup", "/").values()
        if Path("/sys/fs/cgroup/memory").is_dir():
            seen = cgroups("--cgroup", "memory:below", "--cgroup", "pids,freezer:/below")
            assert {name for name, path in seen.items() if path == "/below"} == {"memory", "pids", "freezer"}
        for word in ("..", "../x", "memory:..", "memory:../x", "nosuch:below", "absent", "pids:absent", ":x"):
            done = bundle.command("exec", "--cgroup", word, "c", "true")
            assert (done.returncode, bool(done.stderr)) == (255, True), (word, done)
    finally:
        bundle.command("kill", "c", "KILL")


def test_pidfd_socket(bundle: Bundle, tmp_path: Path) -> None:
    """create and exec hand a pidfd to who listens."""
    path = str(tmp_path / "pidfd.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def received() -> tuple[bytes, int]:
            with listener.accept()[0] as connection:
                data, descriptors, _, _ = socket.recv_fds(connection, 64, 1)
                return data, descriptors[0]

        bundle.shell("sleep 1000")
        assert bundle.run_detached("c", "--pidfd-socket", path).returncode == 0
        word, container = received()
        assert word == b"standard"
        words = ["exec", "--detach", "--pidfd-socket", path, "c", "sleep", "1000"]
        subprocess.run(
            [bundle.runtime, "--root", str(bundle.root), *words], stdin=subprocess.DEVNULL, check=True
        )
        word, process = received()
        assert word == b"setns"
        assert bundle.command("ps", "c").stdout.count("sleep 1000") >= 2
        for descriptor in (process, container):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            os.close(descriptor)
    deadline = time.monotonic() + 30
    while bundle.state()["status"] != "stopped":
        assert time.monotonic() < deadline
    # One that nobody listens at is an error, and nothing is left.
    os.unlink(path)
    assert bundle.run_detached("d", "--pidfd-socket", path).returncode == 1
    assert not (bundle.root / "d").exists()
