"""fastdock as an ordinary user: importing layers, and committing."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from ordinary_user import OrdinaryUser

pytestmark = [pytest.mark.kernel, pytest.mark.here]


def _archive(path: Path, *entries: tarfile.TarInfo) -> None:
    with tarfile.open(path, "w") as tar:
        for entry in entries:
            tar.addfile(entry, io.BytesIO(bytes(entry.size)))
    path.chmod(0o644)


def _entry(name: str, **values: object) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    for key, value in values.items():
        setattr(entry, key, value)
    return entry


def test_layers_keep_owners_whiteouts_and_leave_devices_out(
    user: OrdinaryUser, place_for_others: Path
) -> None:
    archive = place_for_others / "owners.tar"
    _archive(
        archive,
        _entry("bin", type=tarfile.DIRTYPE, mode=0o755),
        _entry("file", uid=1000, gid=50, mode=0o640),
        _entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
        _entry("hidden", type=tarfile.CHRTYPE, devmajor=0, devminor=0),
    )
    user.ok("import", str(archive), "owners")
    user.ok("create", "--name", "look", "--network", "none", "owners", "/x")
    listed = subprocess.run(["tar", "tvf", "-"], input=user.run(*user.command, "export", "look", text=False).stdout,
                            capture_output=True, check=True).stdout.decode()  # fmt: skip
    assert "1000/50" in listed
    assert "null" not in listed
    assert "hidden" not in listed
    user.ok("rm", "look")
    user.ok("rmi", "owners")


def test_an_id_that_is_nobodys_is_a_clear_error(user: OrdinaryUser, place_for_others: Path) -> None:
    archive = place_for_others / "far.tar"
    _archive(archive, _entry("file", uid=900_000))
    done = user.fastdock("import", str(archive), "far")
    assert done.returncode != 0
    assert "/etc/subuid" in done.stderr
    assert "far" not in user.ok("images")


def test_commit_and_run_what_was_committed(user: OrdinaryUser) -> None:
    user.ok(
        "run", "--name", "made", "--network", "none", "busybox", "sh", "-c", "echo kept >/kept; rm /bin/yes"
    )
    user.ok("commit", "made", "mine")
    user.ok("rm", "made")
    shown = user.ok(
        "run", "--rm", "--network", "none", "mine", "sh", "-c", "cat /kept; test -e /bin/yes || echo gone"
    )
    assert shown.split() == ["kept", "gone"]
    user.ok("rmi", "mine")
