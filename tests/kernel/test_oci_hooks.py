"""fastdock-oci: hooks."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from oci_bundle import Bundle

pytestmark = pytest.mark.kernel


def hook(directory: Path, name: str, script: str = "", **members: Any) -> dict[str, Any]:
    """A hook that notes its name, its state's status and where it runs."""
    file = directory / f"{name}.sh"
    status = """grep -o '"status": "[a-z]*"' | cut -d'"' -f4"""
    file.write_text(
        f"#!/bin/sh\necho {name} $({status}) $(readlink /proc/self/ns/mnt) $1 $V >> {directory}/log\n{script}\n"
    )
    file.chmod(0o755)
    return {
        "path": str(file),
        "args": [name, "argument"],
        "env": ["V=variable", "PATH=/bin:/usr/bin"],
    } | members


def test_hooks(bundle: Bundle, tmp_path: Path) -> None:
    names = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]
    bundle.config["hooks"] = {name: [hook(tmp_path, name)] for name in names}
    inside = bundle.rootfs / "bin/inside"
    inside.write_text(
        "#!/bin/sh\ncat > /tmp/state; readlink /proc/self/ns/mnt > /tmp/where; id -u >> /tmp/where\n"
    )
    inside.chmod(0o755)
    bundle.config["hooks"]["startContainer"] = [{"path": "/bin/inside", "env": ["PATH=/bin"]}]
    bundle.config["process"]["user"] = {"uid": 0, "gid": 0}
    bundle.shell("test -s /tmp/state && sleep 1000")
    host = os.readlink("/proc/self/ns/mnt")
    assert bundle.create().returncode == 0
    mount_namespace = os.readlink(f"/proc/{bundle.state()['pid']}/ns/mnt")
    assert not (bundle.rootfs / "tmp/state").exists()
    assert bundle.command("start", "c").returncode == 0
    assert bundle.state()["status"] == "running"
    assert bundle.command("delete", "--force", "c").returncode == 0
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert [line[:3] for line in lines] == [
        ["prestart", "creating", host],
        ["createRuntime", "creating", host],
        ["createContainer", "creating", mount_namespace],
        ["poststart", "running", host],
        ["poststop", "stopped", host],
    ]
    assert all(line[3:] == ["argument", "variable"] for line in lines)
    assert json.loads((bundle.rootfs / "tmp/state").read_text())["status"] == "created"
    assert (bundle.rootfs / "tmp/where").read_text().split() == [mount_namespace, "0"]


def test_hooks_of_run(bundle: Bundle, tmp_path: Path) -> None:
    names = ["createRuntime", "poststart", "poststop"]
    bundle.config["hooks"] = {name: [hook(tmp_path, name)] for name in names}
    inside = bundle.rootfs / "bin/inside"
    inside.write_text("#!/bin/sh\necho ran > /tmp/inside\n")
    inside.chmod(0o755)
    bundle.config["hooks"]["startContainer"] = [{"path": "/bin/inside", "env": ["PATH=/bin"]}]
    assert bundle.output("cat /tmp/inside") == "ran\n"
    assert [line.split()[0] for line in (tmp_path / "log").read_text().splitlines()] == names


def test_a_hook_without_an_environment(bundle: Bundle, tmp_path: Path) -> None:
    """As runc: it has the runtime's, and inside the container the container's; createContainer starts in the root."""
    (bundle.rootfs / "bin/inside").write_text("#!/bin/sh\necho $OWN > /tmp/inside\n")
    (bundle.rootfs / "bin/inside").chmod(0o755)
    bundle.config["process"]["env"].append("OWN=container")
    shell = {"path": "/bin/sh", "args": ["sh", "-c", f"echo $OWN $PWD >> {tmp_path}/log"]}
    bundle.config["hooks"] = {
        "createRuntime": [shell],
        "createContainer": [shell],
        "startContainer": [{"path": "/bin/inside"}],
    }
    bundle.shell("cat /tmp/inside")
    done = bundle.run(env={**os.environ, "OWN": "runtime"})
    assert done.stdout == "container\n", done
    assert (tmp_path / "log").read_text().splitlines() == [
        f"runtime {bundle.path}",
        f"runtime {bundle.rootfs}",
    ]


@pytest.mark.parametrize(
    "when", ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"]
)
def test_a_hook_that_fails(bundle: Bundle, tmp_path: Path, when: str) -> None:
    """The container is not made, what it left is removed, and poststop runs."""
    if when == "startContainer":
        (bundle.rootfs / "bin/bad").write_text("#!/bin/sh\necho why >&2; exit 3\n")
        (bundle.rootfs / "bin/bad").chmod(0o755)
        bad: dict[str, Any] = {"path": "/bin/bad", "env": ["PATH=/bin"]}
    else:
        bad = hook(tmp_path, "bad", "echo why >&2; exit 3")
    bundle.config["hooks"] = {when: [bad], "poststop": [hook(tmp_path, "poststop")]}
    error = bundle.refused()
    assert "failed with status 3: why" in error
    assert (tmp_path / "log").read_text().splitlines()[-1].startswith("poststop stopped")


def test_a_hook_that_does_not_end(bundle: Bundle, tmp_path: Path) -> None:
    bundle.config["hooks"] = {"createRuntime": [hook(tmp_path, "slow", "exec sleep 1000", timeout=1)]}
    assert "did not end within 1 s" in bundle.refused()
