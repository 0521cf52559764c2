"""fastdock-oci: the mounts of config.json."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from oci_bundle import CAPABILITIES, USER_NAMESPACE, Bundle, with_user_namespace

pytestmark = pytest.mark.kernel


def test_bind_mounts(bundle: Bundle, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    (source / "file").write_text("content")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", source / "below"], check=True)
    try:
        mounts = [
            ("/plain", ["bind"]),
            ("/tree", ["rbind"]),
            ("/ro", ["rbind", "ro"]),
            ("/rro", ["rbind", "rro"]),
            ("/noexec", ["bind", "noexec", "nosymfollow"]),
        ]
        for destination, options in mounts:
            bundle.config["mounts"].append(
                {"destination": destination, "source": str(source), "options": options}
            )
        bundle.config["mounts"].append(
            {"destination": "/a/file", "type": "bind", "source": str(source / "file")}
        )
        text = bundle.output(
            "cat /a/file; echo; for d in plain tree ro rro; do touch /$d/t 2>/dev/null && echo $d;"
            "touch /$d/below/t 2>/dev/null && echo $d/below; done; grep ' /noexec ' /proc/self/mountinfo"
        )
    finally:
        subprocess.run(["umount", source / "below"], check=True)
    lines = text.splitlines()
    assert lines[:-1] == ["content", "plain", "plain/below", "tree", "tree/below", "ro/below"]
    assert "noexec" in lines[-1]
    assert "nosymfollow" in lines[-1]


@pytest.mark.parametrize("user_namespace", [False, True])
def test_a_source_in_what_an_earlier_mount_made(bundle: Bundle, tmp_path: Path, user_namespace: bool) -> None:
    """As with runc, a source below the root file system is taken when its turn comes; and never outside of it."""
    if user_namespace:
        with_user_namespace(bundle)
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep/file").write_text("content")
    (source / "out").symlink_to("/../../../../home")
    if user_namespace:
        (source / "deep").chmod(0o777)
    root = str(bundle.rootfs)
    bundle.config["mounts"] += [
        {"destination": "/first", "type": "bind", "source": str(source), "options": ["rbind"]},
        {"destination": "/first/deep/memory", "type": "tmpfs", "source": "tmpfs", "options": ["mode=700"]},
        {"destination": "/tree", "source": f"{root}/first/deep", "options": ["rbind", "ro", "noexec"]},
        {"destination": "/plain", "source": f"{root}/./first//deep/", "options": ["bind"]},
        {"destination": "/file", "source": f"{root}/first/deep/file", "options": ["bind"]},
        {"destination": "/link", "source": f"{root}/first/out", "options": ["bind"]},
        {"destination": "/before", "source": f"{root}/home", "options": ["bind"]},
    ]
    text = bundle.output(
        "cat /file /tree/file; echo; touch /tree/x 2>/dev/null || echo read-only; stat -c %a /tree/memory;"
        "stat -c %a /plain/memory; ls /link /before; grep -c noexec.*tmpfs /proc/self/mountinfo >/dev/null;"
        "touch /plain/new && ls /first/deep; umount /tree 2>/dev/null; ls /tree | wc -l"
    )
    lines = text.splitlines()
    assert lines[:3] == ["contentcontent", "read-only", "700"]
    assert lines[3] == "755", "bind, not rbind: without what is mounted below"
    assert lines[4:9] == ["/before:", "app", "", "/link:", "app"]
    assert lines[9:12] == ["file", "memory", "new"]


def test_a_missing_source_in_an_earlier_mount(bundle: Bundle) -> None:
    root = str(bundle.rootfs)
    tmpfs = {"destination": "/t", "type": "tmpfs", "source": "tmpfs"}
    missing = {"destination": "/x", "type": "bind", "source": f"{root}/t/nothing"}
    bundle.config["mounts"] += [tmpfs, missing]
    assert f"{root}/t/nothing" in bundle.refused()
    missing["options"] = ["bind", "idmap"]
    mapping = [{"containerID": 0, "hostID": 1000, "size": 10}]
    missing |= {"uidMappings": mapping, "gidMappings": mapping}
    bundle.config["mounts"][-1] = missing
    assert f"{root}/t/nothing" in bundle.refused()


def test_tmpfs_options(bundle: Bundle) -> None:
    (bundle.rootfs / "data/sub").mkdir(parents=True)
    (bundle.rootfs / "data/sub/file").write_text("kept")
    (bundle.rootfs / "data/link").symlink_to("/etc/passwd")
    (bundle.rootfs / "data/sub").chmod(0o751)
    os.chown(bundle.rootfs / "data/sub/file", 12, 13)
    bundle.config["mounts"] += [
        {"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "size=1m"]},
        {"destination": "/sealed", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "mode=700"]},
    ]
    text = bundle.output(
        "cat /data/sub/file; echo; stat -c '%a %u:%g' /data/sub /data/sub/file; readlink /data/link;"
        "touch /data/new; touch /sealed/x 2>/dev/null || echo sealed; stat -c %a /sealed"
    )
    assert text.splitlines() == ["kept", "751 0:0", "644 12:13", "/etc/passwd", "sealed", "700"]
    assert not (bundle.rootfs / "data/new").exists()


@pytest.mark.here
def test_id_mapped_mounts(bundle: Bundle, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").touch()
    os.chown(source / "file", 1000, 1001)
    mapping = [{"containerID": 1000, "hostID": 5000, "size": 10}]
    mount = {"destination": "/m", "type": "bind", "source": str(source), "options": ["bind", "idmap"]}
    bundle.config["mounts"].append(mount | {"uidMappings": mapping, "gidMappings": mapping})
    assert bundle.output("stat -c %u:%g /m/file") == "5000:5001\n"


@pytest.mark.here
def test_id_mapped_mounts_in_a_joined_user_namespace(bundle: Bundle, tmp_path: Path) -> None:
    """By the mappings that the namespace has, which config.json does not say; or by the mount's own."""
    with_user_namespace(bundle)
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    (tmp_path / "other").mkdir()
    other = Bundle(tmp_path / "other")
    with_user_namespace(other)
    linux = other.config["linux"]
    del linux["uidMappings"], linux["gidMappings"]
    linux["namespaces"][-1]["path"] = f"/proc/{bundle.state()['pid']}/ns/user"
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").touch()
    os.chown(source / "file", 1000, 1001)
    mount = {"type": "bind", "source": str(source)}
    own = [{"containerID": 1000, "hostID": USER_NAMESPACE[0]["hostID"] + 7, "size": 10}]
    other.config["mounts"] += [
        mount | {"destination": "/by-namespace", "options": ["bind", "idmap"]},
        mount | {"destination": "/below", "options": ["rbind", "ridmap"]},
        mount | {"destination": "/by-own", "uidMappings": own, "gidMappings": own},
    ]
    text = other.output("stat -c %u:%g /by-namespace/file /below/file /by-own/file")
    assert text.split() == ["1000:1001", "1000:1001", "7:8"]
    # Joined alone, beside namespaces of the host's only, it is the same.
    linux["namespaces"] = [entry for entry in linux["namespaces"] if entry["type"] in ("user", "mount")]
    other.config["process"]["args"] = ["/bin/stat", "-c", "%u", "/by-namespace/file"]
    other.config["mounts"] = other.config["mounts"][-3:]
    linux["maskedPaths"] = linux["readonlyPaths"] = []
    done = other.run()
    assert (done.returncode, done.stdout) == (0, "1000\n"), done.stderr
    other.close()


@pytest.mark.here
def test_root_propagation(bundle: Bundle) -> None:
    """What the host mounts below a slave root appears in the container; not so below a private one."""
    subprocess.run(["mount", "--bind", bundle.rootfs, bundle.rootfs], check=True)
    subprocess.run(["mount", "--make-shared", bundle.rootfs], check=True)
    try:
        for word, seen in (("rslave", True), ("rprivate", False)):
            bundle.config["linux"]["rootfsPropagation"] = word
            bundle.shell("sleep 1000")
            assert bundle.run_detached().returncode == 0
            subprocess.run(["mount", "-t", "tmpfs", "late", bundle.rootfs / "tmp"], check=True)
            mounts = bundle.command("exec", "c", "cat", "/proc/self/mountinfo").stdout
            subprocess.run(["umount", bundle.rootfs / "tmp"], check=True)
            assert (" - tmpfs late " in mounts) is seen, word
            bundle.command("delete", "--force", "c")
    finally:
        subprocess.run(["umount", bundle.rootfs], check=True)


@pytest.mark.parametrize("word", ["shared", "rshared"])
def test_a_shared_root(bundle: Bundle, tmp_path: Path, word: str) -> None:
    """What is mounted in a shared volume of such a container appears on the host, and the other way."""
    volume = tmp_path / "volume"
    (volume / "out").mkdir(parents=True)
    subprocess.run(["mount", "--bind", volume, volume], check=True)
    subprocess.run(["mount", "--make-shared", volume], check=True)
    bundle.config["linux"]["rootfsPropagation"] = word
    bundle.config["mounts"].append(
        {"destination": "/volume", "source": str(volume), "options": ["rbind", "rshared"]}
    )
    for name in ("bounding", "effective", "permitted"):
        bundle.config["process"]["capabilities"][name] = [*CAPABILITIES, "CAP_SYS_ADMIN"]
    bundle.shell("sleep 1000")
    try:
        assert bundle.run_detached().returncode == 0
        assert bundle.command("exec", "c", "mount", "-t", "tmpfs", "inner", "/volume/out").returncode == 0
        assert f"{volume}/out " in Path("/proc/self/mountinfo").read_text()
        subprocess.run(["umount", volume / "out"], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "outer", volume / "out"], check=True)
        mounts = bundle.command("exec", "c", "cat", "/proc/self/mountinfo").stdout
        assert " - tmpfs outer " in mounts
        root = next(line.split() for line in mounts.splitlines() if line.split()[4] == "/")
        assert any(field.startswith("shared:") for field in root[6:]), root
    finally:
        bundle.command("delete", "--force", "c")
        subprocess.run(["umount", "--recursive", volume], check=True)


def test_cgroup_mount(bundle: Bundle) -> None:
    """The container sees its own cgroup, read-only."""
    options = ["nosuid", "noexec", "nodev", "relatime", "ro"]
    bundle.config["mounts"].append(
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options}
    )
    bundle.config["linux"]["resources"] = {"pids": {"limit": 33}}
    text = bundle.output(
        "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; cat /proc/self/cgroup | head -1;"
        "mkdir /sys/fs/cgroup/x 2>/dev/null || mkdir /sys/fs/cgroup/pids/x 2>/dev/null || echo refused"
    )
    words = text.split()
    assert words[0] == "33"
    assert words[1].endswith(":/"), "the cgroup namespace begins at the container's cgroup"
    assert words[2] == "refused"


def test_a_tmpfs_has_the_mode_of_what_it_covers(bundle: Bundle) -> None:
    """As runc: an image's /run is not for everybody to write to, nor does /tmp lose its sticky bit."""
    for name, mode in (("run", 0o710), ("tmp", 0o1777), ("srv", 0o755)):
        (bundle.rootfs / name).mkdir(exist_ok=True)
        (bundle.rootfs / name).chmod(mode)
        bundle.config["mounts"].append({"destination": f"/{name}", "type": "tmpfs", "source": "tmpfs"})
    bundle.config["mounts"][-1]["options"] = ["mode=0444"]
    assert bundle.output("stat -c %a /run /tmp /srv").split() == ["710", "1777", "444"]
    # And its options say so.
    mounts = bundle.output("grep -E ' /(run|tmp) ' /proc/self/mounts").splitlines()
    assert ["mode=710" in line for line in mounts] == [True, False], mounts


@pytest.mark.here
@pytest.mark.parametrize("users", ["host", "new", "joined"])
def test_id_mapped_mounts_of_what_an_earlier_mount_made(bundle: Bundle, tmp_path: Path, users: str) -> None:
    """As runc: the ids are mapped when the mount's turn comes, with the host's rights."""
    source = tmp_path / "source"
    (source / "deep/memory").mkdir(parents=True)
    (source / "deep/file").touch()
    os.chown(source / "deep/file", 5, 6)
    (source / "out").symlink_to("/../../../../home")
    other: Bundle | None = None
    mapping = [{"containerID": 0, "hostID": 3000, "size": 10}]
    expected = ["3005:3006", "3005:3006 noexec", "3000:3000", "0:0"]
    if users != "host":
        with_user_namespace(bundle)
        mapping = [{"containerID": 0, "hostID": USER_NAMESPACE[0]["hostID"] + 30, "size": 10}]
        expected = ["35:36", "35:36 noexec", "30:30", "0:0"]
    if users == "joined":
        (tmp_path / "other").mkdir()
        other = Bundle(tmp_path / "other")
        with_user_namespace(other)
        other.shell("sleep 1000")
        assert other.run_detached().returncode == 0
        linux = bundle.config["linux"]
        del linux["uidMappings"], linux["gidMappings"]
        linux["namespaces"][-1]["path"] = f"/proc/{other.state()['pid']}/ns/user"
    root = str(bundle.rootfs)
    own = {"uidMappings": mapping, "gidMappings": mapping}
    below = {"source": f"{root}/first/deep", "options": ["rbind", "idmap"]} | own
    bundle.config["mounts"] += [
        {"destination": "/first", "type": "bind", "source": str(source), "options": ["bind"]},
        {"destination": "/first/deep/memory", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
        {"destination": "/file", "source": f"{root}/first/deep/file", "options": ["bind", "idmap"]} | own,
        below | {"destination": "/tree", "options": ["rbind", "idmap", "noexec"]},
        below | {"destination": "/all", "options": ["rbind", "ridmap"]},
        {"destination": "/link", "source": f"{root}/first/out", "options": ["bind", "idmap"]} | own,
    ]
    if users != "host":
        by_namespace = {"destination": "/by-namespace", "options": ["bind", "idmap"]}
        bundle.config["mounts"].append(by_namespace | {"source": f"{root}/first/deep"})
        expected.append("5:6")
    text = bundle.output(
        "stat -c %u:%g /file; echo $(stat -c %u:%g /tree/file) $(grep -o 'noexec' /proc/self/mountinfo | tail -1);"
        "stat -c %u:%g /all/memory /tree/memory; [ ! -e /by-namespace ] || stat -c %u:%g /by-namespace/file;"
        "ls /link"
    )
    assert text.splitlines() == [*expected, "app"]
    if other is not None:
        other.close()


@pytest.mark.here
def test_what_cannot_map_ids_below_an_earlier_mount(bundle: Bundle) -> None:
    """An error that names the source; nothing stays."""
    mapping = [{"containerID": 0, "hostID": 1000, "size": 10}]
    mount = {"destination": "/x", "type": "bind", "options": ["bind", "idmap"]}
    mount |= {"source": f"{bundle.rootfs}/proc/sys", "uidMappings": mapping, "gidMappings": mapping}
    bundle.config["mounts"].append(mount)
    refused = bundle.refused()
    assert f"{bundle.rootfs}/proc/sys" in refused
    assert "cannot map the ids" in refused


@pytest.mark.here
@pytest.mark.parametrize(("option", "below"), [("idmap", "0"), ("ridmap", "1000")])
def test_id_maps_of_what_is_mounted_below(bundle: Bundle, tmp_path: Path, option: str, below: str) -> None:
    """config.md: idmap is for the mount itself, ridmap also for what lies below it."""
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "below", tree / "deep"], check=True)
    try:
        bundle.config["mounts"].append(
            {
                "destination": "/tree",
                "type": "bind",
                "source": str(tree),
                "options": ["rbind", option],
                "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
                "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
            }
        )
        assert bundle.output("stat -c %u /tree /tree/deep").split() == ["1000", below]
    finally:
        subprocess.run(["umount", tree / "deep"], check=True)


@pytest.mark.here
def test_what_a_bind_does_not_ask_for(bundle: Bundle, tmp_path: Path) -> None:
    """As runc 1.4.0: without an option the source's attributes stay, with one the others are cleared; the
    access time stays unless it is asked for."""
    cases = {
        ("ro,nosuid,nodev,noexec,nosymfollow,noatime", ""): "ro,nosuid,nodev,noexec,noatime,nosymfollow",
        ("ro,nosuid,nodev,noexec,nosymfollow", "rprivate"): "ro,nosuid,nodev,noexec,relatime,nosymfollow",
        ("ro,nosuid,nodev,noexec,nosymfollow", "nosuid"): "rw,nosuid,relatime",
        ("nosuid,nodev", "ro"): "ro,relatime",
        ("ro,noexec,nodiratime", "dev"): "rw,nodiratime,relatime",
        ("ro", "rw"): "rw,relatime",
        ("noatime", "ro"): "ro,noatime",
        ("noatime", "atime"): "rw,noatime",
        ("noatime", "norelatime"): "rw,noatime",
        ("noatime", "relatime"): "rw,relatime",
        ("noatime", "noatime,atime,ro"): "ro,noatime",
        ("noatime", "nodiratime"): "rw,nodiratime,relatime",
        ("nodiratime", "diratime"): "rw,nodiratime,relatime",
        ("nodiratime", "strictatime"): "rw",
        ("noatime", "nodiratime,strictatime"): "rw,nodiratime",
        ("noatime", "nodiratime,norelatime"): "rw,nodiratime,relatime",
        ("nosuid", "rro,nodev"): "ro,nodev,relatime",
    }
    assert attributes_of_binds(bundle, tmp_path, cases) == cases


@pytest.mark.here
def test_what_a_bind_does_not_ask_for_in_a_user_namespace(bundle: Bundle, tmp_path: Path) -> None:
    """As runc: there the source's attributes stay, except those that nobody locks; what is asked for is added."""
    with_user_namespace(bundle)
    cases = {
        ("ro,noexec,nosymfollow,nodiratime", "dev"): "ro,noexec,nodiratime,relatime",
        ("ro", "nosuid,nodev"): "ro,nosuid,nodev,relatime",
        ("noatime,nodiratime", "norelatime"): "rw,noatime,nodiratime",
        ("nosuid,nodev", "ro"): "ro,nosuid,nodev,relatime",
    }
    assert attributes_of_binds(bundle, tmp_path, cases) == cases


@pytest.mark.here
@pytest.mark.parametrize(
    ("has", "wanted"),
    [
        ("ro", "rw,nosuid"),
        ("nodev,nosuid,noatime", "dev"),
        ("relatime", "strictatime"),
        ("noatime", "relatime"),
        ("relatime", "nodiratime"),
    ],
)
def test_what_a_user_namespace_may_not_take_away(
    bundle: Bundle, tmp_path: Path, has: str, wanted: str
) -> None:
    """As the kernel, and so runc: what a user namespace got from the host is locked."""
    source = tmp_path / "source"
    source.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", source], check=True)
    try:
        subprocess.run(["mount", "-o", f"remount,bind,{has}", source], check=True)
        mount = {"destination": "/bind", "source": str(source), "options": ["bind", *wanted.split(",")]}
        bundle.config["mounts"].append(mount)
        assert bundle.run().returncode == 0, "without one it is the caller's to say"
        with_user_namespace(bundle)
        assert "take away" in bundle.refused()
    finally:
        subprocess.run(["umount", source], check=True)


def attributes_of_binds(
    bundle: Bundle, tmp_path: Path, cases: dict[tuple[str, str], str]
) -> dict[tuple[str, str], str]:
    """Of binds of a tmpfs with the attributes, by the options; what mountinfo calls them in the container."""
    sources = [tmp_path / f"source{number}" for number in range(len(cases))]
    mounted = []
    try:
        for number, (source, (has, wanted)) in enumerate(zip(sources, cases, strict=True)):
            source.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", source], check=True)
            mounted.append(source)
            subprocess.run(["mount", "-o", f"remount,bind,{has}", source], check=True)
            options = ["bind", *(wanted.split(",") if wanted else [])]
            bundle.config["mounts"].append(
                {"destination": f"/bind{number}", "source": str(source), "options": options}
            )
        lines = bundle.output("grep ' /bind' /proc/self/mountinfo").splitlines()
    finally:
        for source in mounted:
            subprocess.run(["umount", source], check=True)
    return dict(zip(cases, (line.split()[5] for line in lines), strict=True))


@pytest.mark.here
def test_a_bind_of_an_earlier_mount_does_not_have_its_attributes(bundle: Bundle) -> None:
    """The same where the child makes the bind."""
    bundle.config["mounts"] += [
        {
            "destination": "/first",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nodev", "noexec", "noatime"],
        },
        {"destination": "/second", "source": str(bundle.rootfs / "first"), "options": ["bind", "nosuid"]},
    ]
    line = bundle.output("grep ' /second ' /proc/self/mountinfo")
    assert line.split()[5] == "rw,nosuid,noatime"
