"""fastdock-oci as an ordinary user."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from ordinary_user import OrdinaryUser

pytestmark = [pytest.mark.kernel, pytest.mark.here]


def test_oci_runs_a_rootless_bundle(user: OrdinaryUser) -> None:
    _oci_bundle(user, ["sh", "-c", "id -u; cat /proc/self/uid_map; ls /sys | wc -l"])
    done = user.run(user.place / "fastdock-oci", "run", "-b", "bundle", "one")
    assert done.returncode == 0, done.stderr
    uid, inside, outside, count, entries = done.stdout.split()
    assert (uid, inside, outside, count) == ("0", "0", str(user.uid), "1")
    assert int(entries) > 3


def test_oci_create_start_exec_kill_delete(user: OrdinaryUser) -> None:
    _oci_bundle(user, ["sleep", "60"])
    oci = user.place / "fastdock-oci"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    assert user.start(oci, "create", "-b", "bundle", "two", **quiet).wait(30) == 0
    assert json.loads(user.run(oci, "state", "two").stdout)["status"] == "created"
    assert user.run(oci, "start", "two").returncode == 0
    assert user.run(oci, "exec", "two", "id", "-u").stdout.strip() == "0"
    assert user.run(oci, "kill", "two", "KILL").returncode == 0
    assert user.run(oci, "delete", "--force", "two").returncode == 0
    assert json.loads(user.run(oci, "list", "--format", "json").stdout) in ([], None)


def test_oci_with_subordinate_ids(user: OrdinaryUser) -> None:
    first = next(int(line.split(":")[1]) for line in Path("/etc/subuid").read_text().splitlines()
                 if line.startswith(f"{user.name}:"))  # fmt: skip
    ids = [
        {"containerID": 0, "hostID": user.uid, "size": 1},
        {"containerID": 1, "hostID": first, "size": 1000},
    ]
    _oci_bundle(user, ["id", "-u"], {"uidMappings": ids, "gidMappings": [{**ids[0], "hostID": user.gid}, ids[1]]},
                {"uid": 33, "gid": 33})  # fmt: skip
    done = user.run(user.place / "fastdock-oci", "run", "-b", "bundle", "three")
    assert (done.returncode, done.stdout.strip()) == (0, "33"), done.stderr


def test_oci_without_a_user_namespace_is_refused(user: OrdinaryUser) -> None:
    _oci_bundle(user, ["true"])
    config = json.loads((user.home / "bundle/config.json").read_text())
    config["linux"]["namespaces"] = [each for each in config["linux"]["namespaces"] if each["type"] != "user"]
    del config["linux"]["uidMappings"], config["linux"]["gidMappings"]
    (user.home / "bundle/config.json").write_text(json.dumps(config))
    done = user.run(user.place / "fastdock-oci", "run", "-b", "bundle", "four")
    assert done.returncode == 1
    assert "user namespace" in done.stderr


def _oci_bundle(
    user: OrdinaryUser,
    args: list[str],
    linux: dict[str, object] | None = None,
    who: dict[str, int] | None = None,
) -> None:
    user.run("rm", "-rf", "bundle")
    user.run("mkdir", "-p", "bundle/rootfs")
    user.run("tar", "-C", "bundle/rootfs", "--no-same-owner", "-xf", str(user.place / "busybox.tar"))
    assert user.run(user.place / "fastdock-oci", "spec", "--rootless", "-b", "bundle").returncode == 0
    path = user.home / "bundle/config.json"
    config = json.loads(path.read_text())
    config["process"].update(terminal=False, args=args, **({"user": who} if who else {}))
    config["linux"].update(linux or {})
    path.write_text(json.dumps(config))
