"""Attacks on starting a container: the first table of SECURITY.md, row by row.

The image is hostile, and so is the program in it.
"""

from __future__ import annotations

import io
import os
import pty
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

import fastdock
from fastdock import PIPE, Engine
from support import add_directory, add_file, add_link, busybox_tar

pytestmark = pytest.mark.kernel


def sh(engine: Engine, script: str, image: str = "busybox", **options: Any) -> str:
    done = engine.run(image, ["sh", "-c", script], stdout=PIPE, stderr=fastdock.STDOUT, text=True, **options)
    return str(done.stdout).rstrip("\n")


def hostile_image(engine: Engine, name: str, change: Any, without: tuple[str, ...] = ()) -> str:
    """The image busybox, without some entries, and changed by ``change(tar)``."""
    source = tarfile.open(fileobj=io.BytesIO(busybox_tar()))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for entry in source:
            if entry.name not in without:
                tar.addfile(entry, source.extractfile(entry) if entry.isreg() else None)
        change(tar)
    engine.images.import_tar(io.BytesIO(buffer.getvalue()), name)
    return name


def add_node(tar: tarfile.TarFile, name: str, kind: bytes, major: int = 0, minor: int = 0) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.devmajor, entry.devminor, entry.mode = kind, major, minor, 0o666
    tar.addfile(entry)


@pytest.mark.here  # an image for each, which takes long in the VM, and no cgroups
class TestHostilePaths:
    """CVE-2021-30465, CVE-2023-27561, CVE-2024-45310, CVE-2025-31133, CVE-2025-52565, CVE-2025-24965 and kin."""

    @pytest.mark.parametrize("name", ["dev", "proc", "sys", "dev/pts", "dev/shm", "dev/mqueue"])
    @pytest.mark.parametrize("target", ["absolute", "relative", "magic"])
    def test_a_mount_point_that_is_a_link_out(
        self, engine: Engine, tmp_path: Path, name: str, target: str
    ) -> None:
        """Links are followed inside the root, or refused: nothing is made in the host's directory."""
        place = tmp_path / "outside"
        place.mkdir()
        to = {
            "absolute": str(place),
            "relative": "../" * 20 + str(place),
            "magic": f"/proc/self/root{place}",
        }[target]
        image = hostile_image(engine, "links", lambda tar: add_link(tar, name, to), without=(name,))
        try:
            engine.run(image, ["/bin/true"], stderr=PIPE)
        except fastdock.KernelError as error:
            assert error.path
        assert os.listdir(place) == []

    @pytest.mark.parametrize(
        "name", ["dev/null", "dev/zero", "dev/console", "dev/ptmx", "dev/fd", "dev/stdout"]
    )
    def test_a_device_that_is_a_link_to_a_host_file(self, engine: Engine, tmp_path: Path, name: str) -> None:
        victim = tmp_path / "victim"
        victim.write_text("precious")
        image = hostile_image(engine, "nodes", lambda tar: add_link(tar, name, str(victim)))
        out = sh(engine, f"echo overwritten > /{name}; stat -c %F /dev/null", image)
        assert out.splitlines()[-1] == "character special file"
        assert victim.read_text() == "precious"

    def test_null_of_the_image_is_not_what_masks(self, engine: Engine) -> None:
        """CVE-2025-31133: a /dev/null of the image's making must not be bound over what is masked."""
        image = hostile_image(engine, "nullfile", lambda tar: add_file(tar, "dev/null", "not null"))
        assert sh(engine, "cat /proc/keys; stat -c %F /proc/keys", image) == "character special file"

    @pytest.mark.parametrize("kind", ["fifo", "link", "host link", "directory", "device", "huge", "binary"])
    @pytest.mark.parametrize("name", ["etc/passwd", "etc/group"])
    def test_account_files_of_every_kind(self, engine: Engine, name: str, kind: str) -> None:
        """They are data, of regular files below the root, never waited for and never looked for on the host."""

        def change(tar: tarfile.TarFile) -> None:
            if kind == "fifo":
                add_node(tar, name, tarfile.FIFOTYPE)
            elif kind == "device":
                add_node(tar, name, tarfile.CHRTYPE, 1, 5)  # /dev/zero: no end
            elif kind == "directory":
                add_directory(tar, name)
            elif kind == "link":
                add_link(tar, name, "../../../../../../" + name)
            elif kind == "host link":
                add_link(tar, name, f"/proc/1/root/{name}")
            else:
                add_file(tar, name, "x" * 20_000_000 if kind == "huge" else "\0\1\2:\n::::\nroot:x:-1:-1::\n")

        image = hostile_image(engine, "accounts", change, without=(name,))
        option = {"user": "daemon"} if "passwd" in name else {"user": "1", "group_add": ["daemon"]}
        with pytest.raises(fastdock.KernelError) as caught:
            engine.run(image, ["true"], **option)  # the host has a daemon, this image has not
        assert caught.value.operation.startswith("find the")

    def test_home_with_a_newline(self, engine: Engine) -> None:
        """CVE-2022-4318: it must not become another line of somebody's file or variable."""
        for home in ("/x\tPATH=/evil", "/x\x7f"):
            image = hostile_image(
                engine, "home", lambda tar, home=home: add_file(tar, "etc/passwd", f"web:x:33:34::{home}:/bin/sh\n"),
                without=("etc/passwd",),
            )  # fmt: skip
            with pytest.raises(fastdock.KernelError):
                engine.run(image, ["true"], user="web")

    @pytest.mark.parametrize(
        "user", ["4294967295", "4294967296", "-1", "0x0", " 0", "99999999999999999999", "1:4294967296"]
    )
    def test_ids_that_wrap_around_to_root(self, engine: Engine, user: str) -> None:
        """CVE-2024-40635."""
        with pytest.raises(fastdock.KernelError):
            engine.run("busybox", ["true"], user=user)


@pytest.mark.here  # an image for each, which takes long in the VM, and no cgroups
class TestWorkingDirectory:
    """CVE-2024-21626."""

    @pytest.mark.parametrize("number", [0, 1, 2, 3, 7, 8, 9, 10, 20])
    def test_a_descriptor_as_working_directory(self, engine: Engine, number: int, tmp_path: Path) -> None:
        descriptor = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        os.set_inheritable(descriptor, True)
        try:
            for path in (
                f"/proc/self/fd/{number}",
                f"/proc/self/fd/{descriptor}",
                f"/proc/thread-self/fd/{descriptor}",
            ):
                with pytest.raises(fastdock.KernelError):
                    engine.run("busybox", ["true"], cwd=path, stdin=fastdock.DEVNULL, stdout=fastdock.DEVNULL)
        finally:
            os.close(descriptor)

    def test_a_link_of_the_image_to_a_descriptor(self, engine: Engine) -> None:
        image = hostile_image(engine, "cwd", lambda tar: add_link(tar, "work", "/proc/self/fd/7"))
        with pytest.raises(fastdock.KernelError):
            engine.run(image, ["true"], cwd="/work")

    def test_a_link_out_ends_inside(self, engine: Engine, tmp_path: Path) -> None:
        image = hostile_image(engine, "cwd", lambda tar: add_link(tar, "work", "../../../../../etc"))
        assert sh(engine, "pwd -P; ls", image, cwd="/work").splitlines()[:2] == ["/etc", "group"]

    @pytest.mark.parametrize("userns", ["private", "host"])
    def test_no_descriptor_of_ours_is_open_in_it(self, engine: Engine, userns: str) -> None:
        descriptor = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        os.set_inheritable(descriptor, True)
        try:
            out = sh(
                engine,
                "cd /proc/self/fd && for f in *; do echo $f; done",
                userns=userns,
                stdin=fastdock.DEVNULL,
            )
        finally:
            os.close(descriptor)
        assert set(out.split()) - {"3"} == {"0", "1", "2"}  # 3: the shell's, of the directory itself


@pytest.mark.here  # not about cgroups
class TestHostPrograms:
    """CVE-2019-5736: /proc/self/exe of a process that has not executed the container's program yet."""

    @pytest.mark.parametrize("userns", ["private", "host"])
    @pytest.mark.parametrize("init", [False, True])
    def test_proc_self_exe_as_program(self, engine: Engine, userns: str, init: bool) -> None:
        """It is not the host's Python nor any file of the host that gets executed, let alone writable."""
        try:
            done = engine.run("busybox", ["/proc/self/exe", "--version"], userns=userns, init=init, stdout=PIPE,
                              stderr=fastdock.STDOUT)  # fmt: skip
        except fastdock.KernelError as error:
            assert error.operation == "execute"
        else:
            assert b"Python" not in done.stdout

    @pytest.mark.parametrize("userns", ["private", "host"])
    def test_proc_self_exe_as_interpreter(self, engine: Engine, userns: str) -> None:
        image = hostile_image(
            engine, "exe", lambda tar: add_file(tar, "bin/evil", "#!/proc/self/exe\n", 0o755)
        )
        try:
            done = engine.run(image, ["evil"], userns=userns, stdout=PIPE, stderr=fastdock.STDOUT)
        except fastdock.KernelError as error:
            assert error.operation == "execute"
        else:
            assert b"Python" not in done.stdout

    @pytest.mark.parametrize("userns", ["private", "host"])
    def test_its_own_program_is_the_container_s(self, engine: Engine, userns: str) -> None:
        script = "readlink /proc/1/exe; readlink /proc/self/exe"
        assert sh(engine, script, userns=userns).split() == ["/bin/busybox"] * 2
        assert sh(engine, "readlink /proc/1/exe", userns=userns, init=True).startswith("/memfd:fastdock-init")
        # The init's program is sealed: F_SEAL_WRITE refuses every write, by root too.
        out = sh(engine, "cat /bin/busybox > /proc/1/exe && echo overwritten", userns=userns, init=True)
        assert "overwritten" not in out


class TestPrivileges:
    def test_capability_sets(self, engine: Engine) -> None:
        """CVE-2022-24769: inheritable and ambient are empty, whatever was asked for."""
        for options in (
            {},
            {"cap_add": ["ALL"]},
            {"privileged": True},
            {"user": "web", "cap_add": ["SYS_ADMIN"]},
        ):
            status = dict(
                line.split() for line in sh(engine, "grep ^Cap /proc/self/status", **options).splitlines()
            )
            assert status["CapInh:"] == status["CapAmb:"] == "0" * 16

    def test_root_inside_is_nobody_to_host_files(self, engine: Engine, tmp_path: Path) -> None:
        """A host directory that is reached all the same (a mistake of ours, a kernel bug) says no."""
        with engine.Popen("busybox", ["cat"], stdin=PIPE) as process:
            status = Path(f"/proc/{process.pid}/status").read_text()
            uid = int(next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1])
            assert uid >= 65536
            assert process.stdin is not None
            process.stdin.close()

    def test_groups_of_the_caller_are_gone(self, engine: Engine) -> None:
        program = (
            "import os, sys, fastdock\nos.setgroups([4, 27, 999])\n"
            "fastdock.Engine(sys.argv[1]).run('busybox', ['id', '-G'], userns='host')"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(engine.root)], capture_output=True, text=True, check=True
        )
        assert done.stdout == "0\n"

    def test_namespaces_cannot_be_made_to_get_rights(self, engine: Engine) -> None:
        """CVE-2022-0492 needs unshare and mount: both are filtered without CAP_SYS_ADMIN."""
        for flag in ("-m", "-U", "-n", "-p"):
            assert "Operation not permitted" in sh(engine, f"unshare {flag} true")
        assert "ermi" in sh(engine, "mount -t tmpfs tmpfs /tmp")

    def test_cgroups_are_read_only(self, engine: Engine) -> None:
        """CVE-2022-0492, CVE-2023-25809."""
        for options in ({}, {"userns": "host"}, {"cap_add": ["SYS_ADMIN"]}):
            script = (
                "for f in $(ls -d /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/*/tasks /sys/fs/cgroup/*/cgroup.procs "
                "/sys/fs/cgroup/cgroup.procs 2>/dev/null); do echo 0 > $f && echo wrote $f; done; mkdir /sys/fs/cgroup/*/x"
            )
            out = sh(engine, script, **options)
            assert "wrote" not in out
            assert "Read-only" in out

    def test_its_cgroup_namespace_is_its_own(self, engine: Engine) -> None:
        assert sh(engine, "ls -d /sys/fs/cgroup/*/fastdock /sys/fs/cgroup/fastdock 2>/dev/null") == ""
        script = (
            "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null;"
            "awk '/ - cgroup/ {print $4}' /proc/self/mountinfo | sort -u; ls -d /sys/fs/cgroup/*/.. | xargs -n1 ls"
        )
        limit, root, *above = sh(engine, script, memory="64m").split()
        assert (limit, root) == (str(64 << 20), "/")
        assert not {"fastdock", "release_agent"} & set(above)

    @pytest.mark.here  # Python of the image host takes long in the VM
    def test_session_keyring_is_new(self, engine: Engine) -> None:
        """Not the caller's, whatever the filter lets through: keyctl(KEYCTL_GET_KEYRING_ID)."""
        program = "import ctypes; print(ctypes.CDLL(None).syscall(250, 0, -3, 0))"
        mine = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout
        options: dict[str, Any] = {"privileged": True, "stdout": PIPE, "text": True}
        theirs = engine.run("host", ["python3", "-c", program], **options).stdout
        assert int(mine) > 0
        assert int(theirs) > 0
        assert theirs != mine

    def test_processes_of_the_host_are_not_there(self, engine: Engine) -> None:
        pids = sh(engine, "ls /proc", userns="host").split()
        assert len([pid for pid in pids if pid.isdigit()]) <= 2

    def test_writes_to_proc_land_in_our_procfs(self, engine: Engine, tmp_path: Path) -> None:
        """CVE-2019-16884, CVE-2025-52881: an image's or a volume's /proc/sys never gets a sysctl."""
        (tmp_path / "sys/net/ipv4").mkdir(parents=True)
        (tmp_path / "sys/net/ipv4/ip_forward").write_text("untouched")
        sysctls = {"net.ipv4.ip_forward": "1"}
        try:
            sh(engine, "true", volumes=[f"{tmp_path}:/proc"], sysctls=sysctls)
        except fastdock.FastdockError as error:
            assert str(error)
        assert (tmp_path / "sys/net/ipv4/ip_forward").read_text() == "untouched"
        assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == FORWARDING


FORWARDING = Path("/proc/sys/net/ipv4/ip_forward").read_text()

_PUSH = """
import fcntl, sys, termios
for request in (termios.TIOCSTI, termios.TIOCSTI | 1 << 32, 0x541C):
    try:
        fcntl.ioctl(0, request & 0xFFFFFFFF, b"\\x03x")
        print("pushed")
    except OSError as error:
        print(error.errno)
"""


class TestTerminals:
    """CVE-2017-5226."""

    def test_the_caller_s_terminal_is_not_controlling(self, engine: Engine) -> None:
        ours, theirs = pty.openpty()
        try:
            with engine.Popen(
                "busybox", ["sh", "-c", "tty; cat /dev/tty"], stdin=theirs, stdout=PIPE, stderr=PIPE
            ) as process:
                _, err = process.communicate()
            assert b"/dev/tty" in err  # ENXIO: a session without a terminal
        finally:
            os.close(ours)
            os.close(theirs)

    @pytest.mark.here  # Python of the image host takes long in the VM
    def test_nothing_can_be_typed_into_it(self, engine: Engine) -> None:
        ours, theirs = pty.openpty()
        try:
            done = engine.run("host", ["python3", "-c", _PUSH], stdin=theirs, stdout=PIPE, text=True)
        finally:
            os.close(ours)
            os.close(theirs)
        if done.returncode == 127:
            pytest.skip("this machine's /usr has no python3")
        assert done.stdout.splitlines() == ["1"] * 3  # EPERM


class TestNetwork:
    @pytest.mark.here  # no network of the host to speak of in the VM
    def test_abstract_sockets_of_the_host(self, engine: Engine) -> None:
        """CVE-2020-15257: fastdock itself listens on none."""
        listening = [line for line in Path("/proc/net/unix").read_text().splitlines() if "@" in line]
        assert not [line for line in listening if "fastdock" in line]
        assert "@" not in sh(engine, "cat /proc/net/unix")


# What must not be readable in the image host, whatever this machine has of it.
SECRETS = ["/root/*", "/root/.*rc", "/root/.ssh/*", "/home/*/.*", "/home/*/*", "/etc/shadow", "/etc/shadow-", "/etc/gshadow",
           "/etc/gshadow-", "/etc/sudoers", "/etc/sudoers.d/*", "/etc/ssh/*", "/etc/ssl/private/*", "/etc/machine-id",
           "/run/*.pid", "/run/docker.sock", "/run/fastdock/*", "/var/lib/*", "/var/log/*", "/var/spool/cron/*", "/var/mail/*",
           "/var/cache/*", "/tmp/*", "/var/tmp/*", "/srv/*", "/mnt/*", "/media/*", "/boot/*", "/work/*", "/opt/*/secret*",
           "/etc/fastdock/*", "/etc/krb5.keytab", "/etc/security/opasswd", "/etc/polkit-1/localauthority/*",
           "/etc/NetworkManager/system-connections/*", "/etc/wpa_supplicant/*", "/lost+found/*", "/proc/1/root/root/*"]  # fmt: skip


@pytest.mark.here  # the VM's root is this machine's, through 9p: too slow
class TestHostImage:
    def test_secrets(self, engine: Engine) -> None:
        script = (
            "for f in "
            + " ".join(SECRETS)
            + '; do [ -d "$f" ] || { [ -e "$f" ] && head -c1 "$f" >/dev/null 2>&1 && echo "$f"; }; done; true'
        )
        assert [
            path for path in sh(engine, script, "host").splitlines() if path not in ("/root/.", "/root/..")
        ] == []

    def test_whatever_it_shows_any_user_may_read(self, engine: Engine) -> None:
        """A property: no file is readable inside that uid 65534 cannot read outside."""
        script = "find / -xdev -type f -print0 2>/dev/null; find /usr /opt -xdev -type f -print0 2>/dev/null"
        done = engine.run("host", ["sh", "-c", script], stdout=PIPE)
        paths = set(done.stdout.split(b"\0")) - {b""}
        assert len(paths) > 1000
        unreadable = [path for path in sorted(paths) if not _readable_by_nobody(path)]
        assert unreadable == []

    def test_its_special_files(self, engine: Engine) -> None:
        script = "find / -xdev ! -type f ! -type d ! -type l 2>/dev/null; find /usr /opt -xdev ! -type f ! -type d ! -type l"
        assert sh(engine, script, "host") == ""

    def test_it_cannot_be_written_through(self, engine: Engine) -> None:
        marker = f"fastdock-was-here-{os.getpid()}"
        assert sh(engine, f"echo x > /usr/bin/{marker} && cat /usr/bin/{marker}", "host") == "x"
        assert not Path("/usr/bin", marker).exists()


_directories: dict[bytes, bool] = {}


def _readable_by_nobody(path: bytes) -> bool:
    """Whether every user may read this file of this machine: its own bits, and those of all directories above."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return True  # of the image alone
    return bool(mode & stat.S_IROTH) and _searchable(os.path.dirname(path))


def _searchable(directory: bytes) -> bool:
    if directory not in _directories:
        here = bool(os.stat(directory).st_mode & stat.S_IXOTH)
        _directories[directory] = here and (directory == b"/" or _searchable(os.path.dirname(directory)))
    return _directories[directory]
