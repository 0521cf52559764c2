"""fastdock-oci against hostile images and hostile containers: SECURITY.md, "Launching and entering"."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from oci_bundle import Bundle

pytestmark = pytest.mark.kernel

ALL = [
    "CAP_SYS_ADMIN",
    "CAP_SYS_PTRACE",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_SETUID",
    "CAP_SETGID",
    "CAP_KILL",
]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory of the host's, where nothing may appear or change."""
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "file").write_text("the host's")
    return directory


def untouched(outside: Path) -> bool:
    return [path.name for path in outside.iterdir()] == ["file"] and (
        outside / "file"
    ).read_text() == "the host's"


def test_overwriting_the_runtime(bundle: Bundle) -> None:
    """CVE-2019-5736: a privileged container keeps a descriptor of the runtime's executable, waits until it no
    longer runs, and opens it again for writing."""
    before = hashlib.sha256(Path(bundle.runtime).read_bytes()).digest()
    bundle.config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), ALL)
    bundle.shell("sleep 1000")
    assert bundle.create().returncode == 0
    script = "exec 3</proc/1/exe && echo opened; read go; echo overwritten >/proc/self/fd/3 && echo written; echo done"
    command = [bundle.runtime, "--root", str(bundle.root), "exec", "c", "sh", "-c", script]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as attacker:
        assert attacker.stdout is not None
        assert attacker.stdout.readline() == "opened\n", "the attack reaches the waiting process's executable"
        assert bundle.command("start", "c").returncode == 0
        output, error = attacker.communicate("go\n")
    assert output == "done\n"
    assert (
        "Read-only file system" in error or "Operation not permitted" in error or "Text file busy" in error
    ), error
    assert hashlib.sha256(Path(bundle.runtime).read_bytes()).digest() == before


@pytest.mark.parametrize("kind", ["entrypoint", "script", "link"])
def test_running_the_runtime_inside(bundle: Bundle, kind: str) -> None:
    """An image that has the runtime executed in the container gets a copy that it cannot write to, or nothing."""
    before = hashlib.sha256(Path(bundle.runtime).read_bytes()).digest()
    (bundle.rootfs / "bin/script").write_text("#!/proc/self/exe\n")
    (bundle.rootfs / "bin/script").chmod(0o755)
    (bundle.rootfs / "bin/link").symlink_to("/proc/self/exe")
    program = {"entrypoint": "/proc/self/exe", "script": "/bin/script", "link": "/bin/link"}[kind]
    bundle.config["process"]["args"] = [program, "features"]
    bundle.run()
    assert hashlib.sha256(Path(bundle.runtime).read_bytes()).digest() == before
    bundle.close()


def test_no_descriptor_is_left_open(bundle: Bundle) -> None:
    """CVE-2024-21626: nothing of the runtime's is open in the program, for run and for exec."""
    script = "ls /proc/self/fd"
    assert bundle.output(script).split() == ["0", "1", "2", "3"], "3 is ls's own"
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    assert bundle.command("exec", "c", "ls", "/proc/self/fd").stdout.split() == ["0", "1", "2", "3"]
    assert bundle.command("exec", "c", "ls", "/proc/1/fd").stdout.split() == ["0", "1", "2"]


def test_a_working_directory_behind_a_descriptor(bundle: Bundle) -> None:
    """CVE-2024-21626: cwd is /proc/self/fd/N, or a link to it in the image."""
    (bundle.rootfs / "way").symlink_to("/proc/self/fd/7")
    for directory in (*(f"/proc/self/fd/{number}" for number in range(3, 16)), "/way"):
        bundle.config["process"]["cwd"] = directory
        bundle.shell("ls ../../../../../etc/fstab ./etc/shadow; pwd")
        done = bundle.run()
        assert done.returncode == 1
        assert "change the working directory" in done.stderr


def test_reading_the_process_that_enters(bundle: Bundle) -> None:
    """CVE-2016-9962: a process on its way into the container cannot be looked into from there."""
    assert bundle.create().returncode == 0
    for way in (
        "cat /proc/1/environ",
        "head -c 1 /proc/1/mem",
        "readlink /proc/1/exe",
        "readlink /proc/1/cwd",
        "head -c 1 /proc/1/fd/0",
        "ls /proc/1/root/",
        "cat /proc/1/maps",
    ):
        done = bundle.command("exec", "c", *way.split())
        assert done.stdout == "", way
        assert done.returncode != 0, way
    # Nor does it hold more open than it needs: its own three, and what it waits at.
    numbers = bundle.command("exec", "c", "ls", "/proc/1/fd").stdout.split()
    assert len(numbers) <= 4, numbers


@pytest.mark.parametrize("target", ["../../../../../../../..{outside}", "{outside}"])
def test_mount_points_through_links(bundle: Bundle, outside: Path, target: str) -> None:
    """CVE-2021-30465, CVE-2024-45310: what a link names is looked for below the container's root."""
    (bundle.rootfs / "link").symlink_to(target.format(outside=outside))
    kinds = [
        {"destination": "/link/directory", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/link/bind", "type": "bind", "source": "/etc", "options": ["bind"]},
        {"destination": "/link/one/file", "type": "bind", "source": "/etc/hostname", "options": ["bind"]},
        {"destination": "/link", "type": "tmpfs", "source": "tmpfs"},
    ]
    for mount in kinds:
        bundle.config["mounts"].append(mount)
        bundle.run()
        bundle.config["mounts"].pop()
        assert untouched(outside)


def test_devices_and_links_through_links(bundle: Bundle, outside: Path) -> None:
    """An image whose /dev is a link, and no mount over it: nodes and links stay inside."""
    (bundle.rootfs / "dev").rmdir()
    (bundle.rootfs / "dev").symlink_to(f"../../../../../..{outside}")
    bundle.config["mounts"] = [
        mount for mount in bundle.config["mounts"] if not mount["destination"].startswith("/dev")
    ]
    bundle.config["linux"]["devices"] = [{"path": "/dev/own", "type": "c", "major": 1, "minor": 3}]
    bundle.run()
    assert untouched(outside)


def test_devices_in_place_of_links_to_host_files(bundle: Bundle, outside: Path) -> None:
    """An image's /dev/null and /dev/own are links to files of the host, with no mount over /dev."""
    bundle.config["mounts"] = [
        mount for mount in bundle.config["mounts"] if not mount["destination"].startswith("/dev")
    ]
    bundle.config["linux"]["devices"] = [{"path": "/dev/own", "type": "c", "major": 1, "minor": 3}]
    for name in ("null", "own"):
        (bundle.rootfs / "dev" / name).symlink_to(outside / "file")
    bundle.run()
    assert untouched(outside)


def test_a_working_directory_that_is_made(bundle: Bundle, outside: Path) -> None:
    (bundle.rootfs / "link").symlink_to(f"../../../../../..{outside}")
    bundle.config["process"]["cwd"] = "/link/new"
    bundle.run()
    assert untouched(outside)


def test_a_start_container_hook_is_filtered(bundle: Bundle) -> None:
    """Its program is the image's, and system calls that the container may not make are not for it either."""
    (bundle.rootfs / "bin/inside").write_text("#!/bin/sh\nmkdir /tmp/by-the-hook\n")
    (bundle.rootfs / "bin/inside").chmod(0o755)
    bundle.config["hooks"] = {"startContainer": [{"path": "/bin/inside"}]}
    bundle.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
    }
    for start in (
        lambda: bundle.run().stderr,
        lambda: bundle.create() and bundle.command("start", "c").stderr,
    ):
        assert "Operation not permitted" in start()
    assert not (bundle.rootfs / "tmp/by-the-hook").exists()


def test_a_bare_proc_without_pivot(bundle: Bundle) -> None:
    """CVE-2019-16884's neighbour (runc 77bfbb3): with --no-pivot the host's mounts stay in the namespace, and the
    kernel would let a user namespace mount a procfs with nothing masked."""
    bundle.config["process"]["args"] = [
        "unshare",
        "-Umrpf",
        "sh",
        "-c",
        "mount -t proc none /proc && echo bare",
    ]
    (bundle.rootfs / "bin/unshare").symlink_to("busybox")
    done = bundle.run("c", "--no-pivot")
    assert "bare" not in done.stdout
    assert "denied" in done.stderr or "not permitted" in done.stderr, done


def test_a_fake_proc(bundle: Bundle, tmp_path: Path) -> None:
    """CVE-2019-16884, CVE-2019-19921, CVE-2025-52881: a volume over /proc does not get what is for the kernel."""
    fake = tmp_path / "fake"
    (fake / "sys/net/ipv4").mkdir(parents=True)
    (fake / "sys/net/ipv4/ip_forward").write_text("fake")
    (fake / "self/attr").mkdir(parents=True)
    (fake / "self/attr/exec").write_text("fake")
    bundle.config["mounts"][0] = {
        "destination": "/proc",
        "type": "bind",
        "source": str(fake),
        "options": ["bind"],
    }
    bundle.config["mounts"].append({"destination": "/real", "type": "proc", "source": "proc"})
    bundle.config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
    assert bundle.output("cat /real/sys/net/ipv4/ip_forward") == "1\n"
    assert (fake / "sys/net/ipv4/ip_forward").read_text() == "fake"


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_the_kernels_file_systems_on_links(bundle: Bundle, outside: Path, name: str) -> None:
    """CVE-2019-19921: an image whose /proc is a link to another directory."""
    (bundle.rootfs / name).rmdir()
    (bundle.rootfs / name).symlink_to("/tmp")
    assert "must be mounted on an ordinary directory" in bundle.refused()
    assert untouched(outside)


@pytest.mark.parametrize(
    "target", ["/made/below", "../../made", "made", "{outside}/made", "/made/../../other"]
)
@pytest.mark.parametrize("below", ["", "/further/down"])
def test_mount_points_behind_dangling_links(
    bundle: Bundle, outside: Path, tmp_path: Path, target: str, below: str
) -> None:
    """What a link names and is not there is made, in the root and nowhere else."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_text("mounted")
    (bundle.rootfs / "etc/link").symlink_to(target.format(outside=outside))
    bundle.config["mounts"].append(
        {"destination": f"/etc/link{below}", "source": str(tmp_path / "data"), "options": ["bind"]}
    )
    (bundle.rootfs / "etc/file").symlink_to("absent/file")
    bundle.config["mounts"].append(
        {"destination": "/etc/file", "source": str(tmp_path / "data/file"), "options": ["bind"]}
    )
    assert bundle.output(f"cat /etc/link{below}/file /etc/absent/file") == "mountedmounted"
    assert untouched(outside)


def test_mount_points_behind_links_in_circles(bundle: Bundle) -> None:
    (bundle.rootfs / "etc/one").symlink_to("two/x")
    (bundle.rootfs / "etc/two").symlink_to("one/x")
    bundle.config["mounts"].append({"destination": "/etc/one", "source": "/etc", "options": ["bind"]})
    assert "/etc/one" in bundle.refused()


def test_masks_do_not_come_from_the_image(bundle: Bundle, outside: Path) -> None:
    """CVE-2025-31133: /dev/null of the image is a link to something; masked files are empty all the same."""
    volume = bundle.path / "dev"
    volume.mkdir()
    (volume / "null").symlink_to(outside / "file")
    (bundle.rootfs / "secret").write_text("secret")
    bundle.config["mounts"] = [
        mount for mount in bundle.config["mounts"] if not mount["destination"].startswith("/dev")
    ]
    bundle.config["mounts"].append(
        {"destination": "/dev", "type": "bind", "source": str(volume), "options": ["bind"]}
    )
    bundle.config["linux"]["maskedPaths"] = ["/secret"]
    assert bundle.output("cat /secret; echo changed > /secret; cat /secret; stat -c %t:%T /secret") == "1:3\n"
    assert untouched(outside)


def test_masked_and_read_only_paths_through_links(bundle: Bundle, outside: Path) -> None:
    """A masked path that is a link to the host's file masks nothing outside and shows nothing inside."""
    (bundle.rootfs / "link").symlink_to(f"../../../../../..{outside}/file")
    bundle.config["linux"]["maskedPaths"] = ["/link"]
    bundle.config["linux"]["readonlyPaths"] = ["/link"]
    bundle.run()
    assert untouched(outside)


def test_a_fake_terminal(bundle: Bundle, outside: Path, tmp_path: Path) -> None:
    """CVE-2025-52565: the image's /dev/pts/ptmx is not a terminal's: refused, not opened or waited for."""
    for kind in ("fifo", "link", "file"):
        fake = bundle.rootfs / f"fake-{kind}"
        fake.mkdir()
        if kind == "fifo":
            os.mkfifo(fake / "ptmx")
        elif kind == "link":
            (fake / "ptmx").symlink_to("/proc/1/root/etc/passwd")
        else:
            (fake / "ptmx").touch()
        bundle.config["process"]["terminal"] = True
        mounts = [mount for mount in bundle.config["mounts"] if mount["destination"] != "/dev/pts"]
        mounts.append({"destination": "/dev/pts", "type": "bind", "source": str(fake), "options": ["bind"]})
        before = bundle.config["mounts"]
        bundle.config["mounts"] = mounts
        done = bundle.run()
        bundle.config["mounts"] = before
        assert done.returncode == 1
        assert "open a terminal" in done.stderr
        assert untouched(outside)
    assert not (tmp_path / "x").exists()


def test_a_fake_terminal_for_exec(bundle: Bundle) -> None:
    """The container puts something else where a terminal is opened for exec --tty."""
    capabilities = [*ALL, "CAP_MKNOD"]
    bundle.config["process"]["capabilities"] = dict.fromkeys(
        ("bounding", "effective", "permitted"), capabilities
    )
    fake = "umount /dev/pts; mkdir -p /dev/pts; dd if=/dev/zero of=/dev/pts/ptmx bs=1 count=1 2>/dev/null"
    bundle.shell(f"{fake}; echo r; sleep 1000")
    read, write = os.pipe()
    assert bundle.run_detached(stdout=write).returncode == 0
    assert os.read(read, 2) == b"r\n"
    done = bundle.command("exec", "--tty", "c", "tty")
    assert done.returncode == 255
    assert "open a terminal" in done.stderr
    os.close(read)
    os.close(write)


def test_exec_has_the_credentials_that_were_asked_for(bundle: Bundle) -> None:
    """CVE-2026-30892: exec --user 1 is not 0, in each form; a number that is none is refused."""
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    for flags, expected in (
        (["--user", "1"], "1 0"),
        (["--user=1:2"], "1 2"),
        (["-u", "1000:1000"], "1000 1000"),
    ):
        done = bundle.command("exec", *flags, "c", "sh", "-c", "echo $(id -u) $(id -g)")
        assert done.stdout.strip() == expected, done
    for user in (
        "-1",
        "4294967295",
        "4294967296",
        "18446744073709551616",
        "1:",
        ":1",
        "1:-1",
        "root",
        "0x1",
        " 1",
        "",
        "1\n",
    ):
        done = bundle.command("exec", f"--user={user}", "c", "id", "-u")
        assert (done.returncode, done.stdout) == (255, ""), user


def test_capabilities_do_not_come_back(bundle: Bundle) -> None:
    """CVE-2022-24769, CVE-2022-29162: nothing is inheritable; an ordinary user has nothing."""
    sets = "grep -E 'Cap(Inh|Amb)' /proc/self/status"
    zero = "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n"
    assert bundle.output(sets) == zero
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    assert bundle.command("exec", "--cap", "CAP_SYS_PTRACE", "c", "sh", "-c", sets).stdout == zero
    user = bundle.command(
        "exec", "--user", "1000", "c", "grep", "-E", "Cap(Prm|Eff)", "/proc/self/status"
    ).stdout
    assert user == "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n"


def test_the_terminal_is_not_the_callers(bundle: Bundle) -> None:
    """CVE-2017-5226: without a terminal of its own the container's session has none."""
    assert bundle.output("(cat < /dev/tty) 2>/dev/null; cut -d' ' -f7 /proc/self/stat") == "0\n"


def test_the_bundle_changes_while_it_is_read(bundle: Bundle) -> None:
    """What was read first is what is launched and what later commands see."""
    bundle.config["annotations"] = {"who": "first"}
    assert bundle.create().returncode == 0
    bundle.config["annotations"] = {"who": "second"}
    bundle.config["process"]["env"] = ["PATH=/bin", "EVIL=1"]
    bundle.write()
    assert bundle.state()["annotations"] == {"who": "first"}
    assert "EVIL" not in bundle.command("exec", "c", "env").stdout


def test_a_root_that_is_exchanged_for_a_link(bundle: Bundle, outside: Path) -> None:
    """root.path may be a link of the administrator's; what it names is the root, and nothing above it."""
    (bundle.path / "link").symlink_to("rootfs")
    bundle.config["root"]["path"] = "link"
    assert "bin" in bundle.output("ls /; ls /../..").split()
    assert untouched(outside)


def test_state_is_for_root_alone(bundle: Bundle) -> None:
    assert bundle.create().returncode == 0
    assert bundle.root.stat().st_mode & 0o777 == 0o700
    assert (bundle.root / "c").stat().st_mode & 0o777 == 0o700
