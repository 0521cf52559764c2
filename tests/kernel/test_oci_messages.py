"""fastdock-oci: its log, --debug and the help of its commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from oci_bundle import Bundle

pytestmark = pytest.mark.kernel


def test_the_log_is_runcs(bundle: Bundle, tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = bundle.command("--log", str(log), "--log-format", "json", "state", "nosuch")
    assert done.returncode == 1
    entry = json.loads(log.read_text())
    assert (entry["level"], entry["msg"]) == ("error", "container nosuch does not exist")
    assert entry["time"].endswith("Z")


@pytest.mark.here
def test_a_log_that_cannot_be_opened(bundle: Bundle, tmp_path: Path) -> None:
    """As runc: nothing is done without the log that was asked for; its help and version need none."""
    log = tmp_path / "nosuch" / "log"
    for words in (
        ["run", "--bundle", str(bundle.path), "c"],
        ["state", "nosuch"],
        ["exec", "c", "true"],
        ["nosuch"],
    ):
        bundle.write()
        done = bundle.command("--log", str(log), *words)
        assert (done.returncode, done.stdout) == (1, ""), words
        assert str(log) in done.stderr
        assert "No such file or directory" in done.stderr
    assert not bundle.root.exists()
    for word in ("--version", "--help"):
        assert bundle.command("--log", str(log), word).returncode == 0
    # One that can be is there, empty or not.
    assert bundle.command("--log", str(tmp_path / "log"), "features").returncode == 0
    assert (tmp_path / "log").read_text() == ""


def test_debug(bundle: Bundle, tmp_path: Path) -> None:
    """As runc: to --log, or without one to standard error; nothing without --debug."""
    bundle.write()
    run = ("run", "--bundle", str(bundle.path), "c")
    assert bundle.command("--log", str(tmp_path / "log"), *run).returncode == 0
    assert (tmp_path / "log").read_text() == ""
    words = ("--debug", "--log", str(tmp_path / "log"), "--log-format", "json")
    assert bundle.command(*words, *run).stderr == ""
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {line["level"] for line in lines} == {"debug"}
    assert any(str(bundle.rootfs) in line["msg"] and bundle.cgroup in line["msg"] for line in lines)
    assert "level=debug" in bundle.command("--debug", *run).stderr


@pytest.mark.parametrize(
    "command",
    [
        "create",
        "delete",
        "events",
        "exec",
        "features",
        "kill",
        "list",
        "pause",
        "ps",
        "resume",
        "run",
        "spec",
        "start",
        "state",
        "update",
    ],
)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_of_a_command(bundle: Bundle, command: str, flag: str) -> None:
    done = bundle.command(command, flag)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert f" {command} [flags]" in done.stdout
    assert ("--bundle, -b" in done.stdout) is (command in ("create", "run", "spec"))
