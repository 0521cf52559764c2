"""fastdock-oci with a config.json that has no mount namespace: mounts on the host, which `delete` takes away."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from oci_bundle import Bundle, with_user_namespace

pytestmark = [pytest.mark.kernel, pytest.mark.here]


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Bundle]:
    made = Bundle(tmp_path)
    linux = made.config["linux"]
    linux["namespaces"] = [entry for entry in linux["namespaces"] if entry["type"] != "mount"]
    linux["maskedPaths"] = linux["readonlyPaths"] = []
    made.shell("sleep 1000")
    yield made
    made.close()
    assert mounts(made) == [], "what a container without a mount namespace has mounted is still there"


def mounts(bundle: Bundle) -> list[str]:
    """Where on the host there are mounts in the bundle."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point.removeprefix(str(bundle.rootfs)) for point in points if point.startswith(str(bundle.path))]


def host_root() -> list[str]:
    """The host's root and its propagation."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if line.split()[4] == "/"]


def test_its_mounts_are_the_hosts_and_go_with_it(bundle: Bundle, tmp_path: Path) -> None:
    before = host_root()
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("content")
    bundle.config["mounts"] += [
        {"destination": "/first", "type": "bind", "source": str(source), "options": ["rbind"]},
        {
            "destination": "/second",
            "type": "bind",
            "source": f"{bundle.rootfs}/first",
            "options": ["bind", "ro"],
        },
        {"destination": "/memory", "type": "tmpfs", "source": "tmpfs"},
    ]
    assert bundle.create().returncode == 0
    assert {"", "/proc", "/dev", "/first", "/second", "/memory"} <= set(mounts(bundle))
    assert host_root() == before, "runc makes the host's root a slave"
    assert (bundle.rootfs / "second/file").read_text() == "content"
    assert bundle.command("start", "c").returncode == 0
    # exec is in the container's root, where runc's is in the host's.
    inside = bundle.command(
        "exec", "c", "/bin/sh", "-c", "ls -d /bin/busybox /first/file; touch /memory/x; id -u"
    )
    assert inside.stdout.split() == ["/bin/busybox", "/first/file", "0"], inside.stderr
    assert (bundle.rootfs / "memory/x").exists()
    own = Path("/proc/self/ns/mnt").readlink()
    assert Path(f"/proc/{bundle.state()['pid']}/ns/mnt").readlink() == own
    assert bundle.command("delete", "--force", "c").returncode == 0
    assert mounts(bundle) == []
    assert host_root() == before


def test_run_and_what_the_container_mounts_itself(bundle: Bundle) -> None:
    bundle.config["process"]["capabilities"]["bounding"].append("CAP_SYS_ADMIN")
    for name in ("effective", "permitted"):
        bundle.config["process"]["capabilities"][name] = bundle.config["process"]["capabilities"]["bounding"]
    bundle.config["root"]["readonly"] = True
    text = bundle.output(
        "mount -t tmpfs inner /home && touch /home/x && touch /x 2>/dev/null || echo read-only; pwd"
    )
    assert text == "read-only\n/\n"
    assert mounts(bundle) == []
    assert not (bundle.rootfs / "home/x").exists()


def test_nothing_reaches_other_mount_namespaces(bundle: Bundle, tmp_path: Path) -> None:
    """Below a shared mount the host's others see that there is a mount, and nothing in it."""
    top = tmp_path / "bundle"
    subprocess.run(["mount", "--bind", top, top], check=True)
    subprocess.run(["mount", "--make-shared", top], check=True)
    other = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", "echo; exec sleep 1000"],
        stdout=subprocess.PIPE,
    )
    try:
        assert other.stdout is not None
        other.stdout.readline()
        assert bundle.run_detached().returncode == 0
        seen = Path(f"/proc/{other.pid}/mountinfo").read_text()
        assert f" {bundle.rootfs} " in seen
        assert f" {bundle.rootfs}/proc " not in seen
        assert bundle.command("delete", "--force", "c").returncode == 0
        assert f" {bundle.rootfs} " not in Path(f"/proc/{other.pid}/mountinfo").read_text()
    finally:
        other.kill()
        other.communicate()
        subprocess.run(["umount", top], check=True)


def hook(script: str) -> list[dict[str, Any]]:
    return [{"path": "/bin/sh", "args": ["sh", "-c", script]}]


def test_a_creator_that_is_killed(bundle: Bundle) -> None:
    """What it has mounted goes with `delete`."""
    bundle.config["hooks"] = {"createRuntime": hook("kill -9 $PPID")}
    assert bundle.create().returncode == -9
    assert mounts(bundle) != []
    assert bundle.command("delete", "--force", "c").returncode == 0
    assert mounts(bundle) == []


def test_failures_leave_nothing(bundle: Bundle) -> None:
    bundle.config["process"]["args"] = ["/no/such/program"]
    bundle.refused()
    assert mounts(bundle) == []
    bundle.config["mounts"].append({"destination": "/x", "type": "nonsense", "source": "x"})
    bundle.refused()
    assert mounts(bundle) == []


def test_a_mount_that_was_there_stays(bundle: Bundle) -> None:
    """An engine's own mount of the root, which only the engine takes away."""
    subprocess.run(["mount", "--bind", bundle.rootfs, bundle.rootfs], check=True)
    try:
        assert bundle.run_detached().returncode == 0
        assert bundle.command("delete", "--force", "c").returncode == 0
        assert mounts(bundle) == [""]
        bundle.config["hooks"] = {"createRuntime": hook("exit 1")}
        bundle.refused()
        assert mounts(bundle) == [""]
    finally:
        subprocess.run(["umount", bundle.rootfs], check=True)


def test_what_needs_a_mount_namespace(bundle: Bundle, tmp_path: Path) -> None:
    def masks(config: dict[str, Any]) -> None:
        config["linux"]["maskedPaths"] = ["/proc/kcore"]

    assert "mount namespace" in bundle.refused(masks)

    def covers_the_host(config: dict[str, Any]) -> None:
        config["root"]["path"] = "/"

    assert "mount namespace" in bundle.refused(covers_the_host)
    with_user_namespace(bundle)
    assert "mount namespace" in bundle.refused()
