"""fastdock-oci: names of containers, what is kept of them, and their list."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from oci_bundle import Bundle

pytestmark = pytest.mark.kernel


@pytest.mark.here
@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "a b", "a\nb", "x" * 300])
def test_names_that_are_no_names(bundle: Bundle, name: str) -> None:
    done = bundle.run(name)
    assert done.returncode == 1
    assert "invalid container id" in done.stderr


def test_two_of_one_name(bundle: Bundle) -> None:
    assert bundle.create().returncode == 0
    second = bundle.create()
    assert second.returncode == 1
    assert "exists" in second.stderr
    assert bundle.state()["status"] == "created", "the first is unharmed"


@pytest.mark.here
def test_what_is_written_of_a_container(bundle: Bundle) -> None:
    """Nothing half-written stays beside its files, and nothing at all after its end."""
    bundle.shell("sleep 1000")
    assert bundle.create().returncode == 0
    assert sorted(os.listdir(bundle.root / "c")) == ["config.json", "start.fifo", "state.json"]
    assert bundle.command("start", "c").returncode == 0
    assert sorted(os.listdir(bundle.root / "c")) == ["config.json", "state.json"]
    assert bundle.command("delete", "--force", "c").returncode == 0
    assert os.listdir(bundle.root) == []


def test_a_state_of_another_version(bundle: Bundle) -> None:
    assert bundle.create().returncode == 0
    file = bundle.root / "c/state.json"
    good = file.read_text()
    for bad in (
        '{"ociVersion": "1.0.2", "id": "c", "init_process_pid": 1}',
        "{",
        "",
        '{"fastdockState": 999}',
    ):
        file.write_text(bad)
        done = bundle.command("state", "c")
        assert done.returncode == 1, bad
        assert "state.json" in done.stderr or "pid" in done.stderr
    file.write_text(good)
    assert bundle.state()["status"] == "created"


def test_a_number_that_became_another_process(bundle: Bundle) -> None:
    """The pid of a container that has ended may be somebody else's: it is not signalled."""
    assert bundle.create().returncode == 0
    state = json.loads((bundle.root / "c/state.json").read_text())
    real, started = state["pid"], state["startTime"]
    with subprocess.Popen(["sleep", "1000"]) as other:
        fields = Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()
        state.update(pid=other.pid, startTime=int(fields[19]) - 1)
        (bundle.root / "c/state.json").write_text(json.dumps(state))
        assert bundle.state()["status"] == "stopped"
        assert bundle.command("kill", "c", "KILL").returncode == 1
        assert other.poll() is None
        other.kill()
    state.update(pid=real, startTime=started)
    (bundle.root / "c/state.json").write_text(json.dumps(state))


def wait_for_lock(waiting: subprocess.Popen[bytes]) -> None:
    """Returns when this process waits for a lock of files (proc_locks(5): "1: -> FLOCK ... PID ...")."""
    deadline = time.monotonic() + 60
    while f" {waiting.pid} " not in "".join(
        line for line in Path("/proc/locks").read_text().splitlines() if "->" in line
    ):
        assert waiting.poll() is None
        assert time.monotonic() < deadline


@pytest.mark.here
@pytest.mark.parametrize(("creation", "word"), [(["create"], "start"), (["run", "--detach"], "delete")])
def test_a_word_while_it_is_created(bundle: Bundle, tmp_path: Path, creation: list[str], word: str) -> None:
    """It waits for the creator, and then sees what that has made: not the state from before."""
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    for fifo in (begun, gate):
        os.mkfifo(fifo)
    hook = ["sh", "-c", f"echo > {begun}; read word < {gate}"]
    bundle.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": hook}]}
    bundle.config["annotations"] = {"said": "once"}
    bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    bundle.write()
    base = [bundle.runtime, "--root", str(bundle.root)]
    nowhere = subprocess.DEVNULL
    with subprocess.Popen([*base, *creation, "--bundle", str(bundle.path), "c"], stdout=nowhere) as creator:
        begun.read_text()
        assert bundle.state()["status"] == "creating"
        with subprocess.Popen([*base, word, "c"], stderr=subprocess.PIPE) as told:
            wait_for_lock(told)
            gate.write_text("on\n")
            _, error = told.communicate(timeout=60)
        assert creator.wait(60) == 0
    wanted = {"start": (0, ""), "delete": (1, "that is not stopped: running")}[word]
    assert (told.returncode, wanted[1] in error.decode()) == (wanted[0], True), error
    state = bundle.state()
    assert (state["status"], state["annotations"]) == ("running", {"said": "once"})


def test_list(bundle: Bundle) -> None:
    bundle.root.mkdir()
    assert bundle.command("list", "--format", "json").stdout == "null\n"
    assert bundle.create("one").returncode == 0
    assert bundle.command("list", "--quiet").stdout == "one\n"
    assert [entry["id"] for entry in json.loads(bundle.command("list", "-f", "json").stdout)] == ["one"]
    assert bundle.command("list").stdout.split()[:6] == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]


def test_a_list_of_a_place_that_is_not_there(bundle: Bundle, tmp_path: Path) -> None:
    bundle.root = tmp_path / "nowhere"
    assert "nowhere" in bundle.command("list").stderr
