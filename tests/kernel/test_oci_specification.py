"""fastdock-oci: config.json, field by field, but for the process, namespaces, mounts and hooks; features and spec."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from oci_bundle import Bundle

pytestmark = pytest.mark.kernel


def test_root_read_only(bundle: Bundle) -> None:
    """Mount points that the image lacks are made all the same."""
    bundle.config["root"]["readonly"] = True
    bundle.config["mounts"].append({"destination": "/new/deep", "type": "tmpfs", "source": "t"})
    assert (
        bundle.output("touch /x 2>/dev/null || echo refused; touch /new/deep/x && echo written")
        == "refused\nwritten\n"
    )


def test_no_pivot(bundle: Bundle) -> None:
    bundle.shell("ls /")
    done = bundle.run("c", "--no-pivot")
    assert done.returncode == 0, done.stderr
    assert "bin" in done.stdout.split()


def test_default_devices_and_links(bundle: Bundle) -> None:
    text = bundle.output(
        "stat -c '%n %a %t:%T' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty;"
        "for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done; echo x > /dev/null"
    )
    assert text.splitlines() == [
        "/dev/null 666 1:3",
        "/dev/zero 666 1:5",
        "/dev/full 666 1:7",
        "/dev/random 666 1:8",
        "/dev/urandom 666 1:9",
        "/dev/tty 666 5:0",
        "/proc/self/fd",
        "/proc/self/fd/0",
        "/proc/self/fd/1",
        "/proc/self/fd/2",
        "pts/ptmx",
    ]


def test_devices(bundle: Bundle) -> None:
    linux = bundle.config["linux"]
    linux["devices"] = [
        {"path": "/dev/sub/one", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 3, "gid": 4},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o600},
        {"path": "/dev/secret", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666},
    ]
    linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    text = bundle.output(
        "stat -c '%F %a %u:%g' /dev/sub/one /dev/pipe; head -c 1 /dev/sub/one | wc -c;"
        "head -c 1 /dev/secret 2>&1 | grep -o 'not permitted'"
    )
    assert text.splitlines() == ["character special file 640 3:4", "fifo 600 0:0", "1", "not permitted"]


def test_a_device_with_a_trailing_slash(bundle: Bundle) -> None:
    bundle.config["linux"]["devices"] = [{"path": "/srv/own/", "type": "c", "major": 1, "minor": 3}]
    assert bundle.output("test -c /srv/own && echo there") == "there\n"


def test_masked_and_read_only_paths(bundle: Bundle) -> None:
    (bundle.rootfs / "etc/secret").write_text("secret")
    (bundle.rootfs / "etc/directory").mkdir()
    (bundle.rootfs / "etc/directory/file").write_text("secret")
    bundle.config["linux"]["maskedPaths"] += ["/etc/secret", "/etc/directory", "/nowhere"]
    bundle.config["linux"]["readonlyPaths"] += ["/etc", "/nowhere"]
    text = bundle.output("cat /etc/secret; ls /etc/directory; touch /etc/x 2>/dev/null || echo read-only")
    assert text == "read-only\n"


def test_masked_twice(bundle: Bundle) -> None:
    bundle.config["linux"]["maskedPaths"] = ["/srv", "/srv"]
    (bundle.rootfs / "srv").mkdir()
    assert bundle.output("grep -c ' /srv ' /proc/self/mountinfo") == "1\n"


def test_limits(bundle: Bundle) -> None:
    bundle.config["linux"]["resources"] = {
        "memory": {"limit": 64 << 20, "reservation": 32 << 20},
        "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0"},
        "pids": {"limit": 20},
    }
    assert bundle.create().returncode == 0
    assert bundle.cgroup_file("memory/memory.limit_in_bytes", "memory.max") == str(64 << 20)
    assert bundle.cgroup_file("memory/memory.soft_limit_in_bytes", "memory.low") == str(32 << 20)
    assert bundle.cgroup_file("cpu/cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"
    assert bundle.cgroup_file("cpuset/cpuset.cpus", "cpuset.cpus") == "0"
    assert bundle.cgroup_file("pids/pids.max", "pids.max") == "20"


def test_annotations_are_in_the_state(bundle: Bundle) -> None:
    bundle.config["annotations"] = {"org.example.key": 'value "quoted" ü'}
    assert bundle.create().returncode == 0
    assert bundle.state()["annotations"] == bundle.config["annotations"]


def test_unknown_members_are_ignored(bundle: Bundle) -> None:
    bundle.config["future"] = {"a": [1, 2, {"b": None}]}
    bundle.config["process"]["future"] = True
    assert bundle.output("echo fine") == "fine\n"


def test_features_and_spec(bundle: Bundle, tmp_path: Path) -> None:
    features = json.loads(bundle.command("features").stdout)
    assert features["ociVersionMax"].startswith("1.3")
    assert {"rro", "idmap", "tmpcopyup", "nosymfollow"} <= set(features["mountOptions"])
    assert "time" in features["linux"]["namespaces"]
    assert features["linux"]["intelRdt"]["enabled"] is False
    assert "MPOL_BIND" in features["linux"]["memoryPolicy"]["modes"]
    assert "MPOL_F_STATIC_NODES" in features["linux"]["memoryPolicy"]["flags"]
    for flags in ([], ["--rootless"]):
        (tmp_path / "new").mkdir(exist_ok=True)
        assert bundle.command("spec", "--bundle", str(tmp_path / "new"), *flags).returncode == 0
        config = json.loads((tmp_path / "new/config.json").read_text())
        assert ("uidMappings" in config["linux"]) is bool(flags)
        # Ambient ones without inheritable ones could not be granted: a warning in the log of each run.
        assert sorted(config["process"]["capabilities"]) == ["bounding", "effective", "permitted"]
        assert bundle.command("spec", "--bundle", str(tmp_path / "new")).returncode == 1
        (tmp_path / "new/config.json").unlink()


def test_checkpoint_is_refused(bundle: Bundle) -> None:
    done = bundle.command("checkpoint", "c")
    assert done.returncode == 1
    assert "checkpoint" in done.stderr
