"""fastdock-oci: a container's cgroup: whose it is, update and events."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from oci_bundle import Bundle

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("frozen", [False, True])
def test_a_cgroup_of_others(bundle: Bundle, frozen: bool) -> None:
    """One that holds processes is refused, and stays as it is."""
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    if frozen:
        assert bundle.command("pause", "c").returncode == 0
    done = bundle.run("d")
    assert done.returncode == 1
    assert "cgroup is not empty" in done.stderr
    assert bundle.state()["status"] == ("paused" if frozen else "running")


def test_a_frozen_cgroup(bundle: Bundle) -> None:
    """What enters it would stop: refused, not waited for."""
    v1 = Path("/sys/fs/cgroup/freezer")
    directory = Path(str(v1 if v1.is_dir() else v1.parent) + bundle.cgroup)
    file, word = ("freezer.state", "FROZEN") if v1.is_dir() else ("cgroup.freeze", "1")
    directory.mkdir()
    (directory / file).write_text(word)
    try:
        done = bundle.run()
        assert done.returncode == 1
        assert "frozen" in done.stderr
    finally:
        for path in bundle.cgroups():
            Path(path).rmdir()


def test_a_container_in_the_foreground_can_be_changed(bundle: Bundle) -> None:
    """`run` keeps nobody waiting: pause, update and delete reach its container."""
    bundle.shell("sleep 1000")
    bundle.write()
    command = [bundle.runtime, "--root", str(bundle.root), "run", "--bundle", str(bundle.path), "c"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        deadline = time.monotonic() + 30
        while bundle.command("state", "c").returncode != 0 or bundle.state()["status"] != "running":
            assert time.monotonic() < deadline
        for words in (["pause", "c"], ["resume", "c"], ["update", "--memory", "50M", "c"]):
            assert bundle.command(*words).returncode == 0, words
        assert bundle.cgroup_file("memory/memory.limit_in_bytes", "memory.max") == str(50 << 20)
        assert bundle.command("delete", "--force", "c").returncode == 0
        assert process.wait(30) == 137
        assert process.stderr.read() == b""


def test_update_and_events(bundle: Bundle, tmp_path: Path) -> None:
    bundle.config["linux"]["resources"] = {"memory": {"limit": 64 << 20}, "pids": {"limit": 50}}
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    assert bundle.cgroup_file("memory/memory.limit_in_bytes", "memory.max") == str(64 << 20)
    words = ["--memory", str(32 << 20), "--memory-swap", str(48 << 20), "--pids-limit", "40"]
    assert bundle.command("update", *words, "c").returncode == 0
    assert bundle.cgroup_file("memory/memory.limit_in_bytes", "memory.max") == str(32 << 20)
    assert bundle.cgroup_file("pids/pids.max", "pids.max") == "40"
    (tmp_path / "r.json").write_text(json.dumps({"pids": {"limit": 30}}))
    with (tmp_path / "r.json").open() as file:
        assert bundle.command("update", "--resources", "-", "c", stdin=file).returncode == 0
    assert bundle.cgroup_file("pids/pids.max", "pids.max") == "30"
    event = json.loads(bundle.command("events", "--stats", "c").stdout)
    assert (event["type"], event["id"]) == ("stats", "c")
    assert event["data"]["memory"]["usage"]["limit"] == 32 << 20
    assert event["data"]["pids"] == {"current": 1, "limit": 30}
    memory = event["data"]["memory"]
    assert memory["swap"]["limit"] == 48 << 20, "as runc: memory and swap"
    assert memory["swap"]["usage"] >= memory["usage"]["usage"] >= memory["kernel"]["usage"]
    assert bundle.command("update", "--memory", "much", "c").returncode == 1


def watches_memory(pid: int) -> bool:
    """Whether `events` has opened what it watches."""
    targets = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            targets.add(os.readlink(file))
    return bool({"anon_inode:[eventfd]", "anon_inode:inotify"} & targets)


def test_an_out_of_memory_event(bundle: Bundle) -> None:
    """`events` tells of it while it happens."""
    bundle.config["linux"]["resources"] = {"memory": {"limit": 8 << 20, "swap": 8 << 20}}
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    command = [bundle.runtime, "--root", str(bundle.root), "events", "--interval", "1h", "c"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as events:
        assert events.stdout is not None
        while not watches_memory(events.pid):
            pass
        greedy = bundle.command("exec", "c", "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1")
        assert greedy.returncode == 137
        assert json.loads(events.stdout.readline()) == {"type": "oom", "id": "c"}
        bundle.command("kill", "c", "KILL")
        assert events.wait() == 0
