"""Whatever can go wrong between clone and exec: one typed error that says what, on what, why, and what to do.

The fixture of conftest.py checks after each that nothing is left.
"""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fastdock
from fastdock import Engine, KernelError, LimitError, SpecError
from fastdock.engine import base_of
from fastdock.options import options_from
from fastdock.planning import plan_of
from support import add_directory, add_file, busybox_tar

pytestmark = pytest.mark.kernel


@pytest.fixture
def broken(engine: Engine) -> str:
    """An image with everything that cannot be executed; made once."""
    try:
        return str(engine.store.get("broken").id)
    except fastdock.ImageNotFound:
        pass
    buffer = io.BytesIO(busybox_tar())
    with tarfile.open(fileobj=buffer, mode="a") as tar:
        add_file(tar, "bin/plain", "#!/bin/sh\n")
        add_file(tar, "bin/lost", "#!/no/such/interpreter\n", 0o755)
        add_file(tar, "bin/lost-elf", "", 0o755)
        add_file(tar, "bin/text", "just words\n", 0o755)
        add_file(tar, "bin/empty", "", 0o755)
        add_directory(tar, "secret", 0o700)
        add_file(tar, "secret/tool", "#!/bin/sh\n", 0o755)
        link = tarfile.TarInfo("bin/dangling")
        link.type, link.linkname = tarfile.SYMTYPE, "/nowhere"
        tar.addfile(link)
        loop = tarfile.TarInfo("bin/loop")
        loop.type, loop.linkname = tarfile.SYMTYPE, "loop"
        tar.addfile(loop)
        entry = tarfile.TarInfo("bin/foreign")
        elf = elf_header(machine=0x16)  # S/390
        entry.mode, entry.size = 0o755, len(elf)
        tar.addfile(entry, io.BytesIO(elf))
        entry = tarfile.TarInfo("bin/dynamic")
        program = elf_header(interpreter=b"/no/such/ld.so")
        entry.mode, entry.size = 0o755, len(program)
        tar.addfile(entry, io.BytesIO(program))
    engine.images.import_tar(io.BytesIO(buffer.getvalue()), "broken")
    return "broken"


def elf_header(machine: int = 62, interpreter: bytes = b"") -> bytes:
    """The least of an ELF program that the kernel looks at: elf(5), EM_X86_64, PT_INTERP and PT_LOAD."""
    import struct

    segments = [(1, 5, 0, 0x400000, 4096)]
    if interpreter:
        segments.insert(0, (3, 4, 512, 0x400200, len(interpreter) + 1))
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01",
        2,
        machine,
        1,
        0x400100,
        64,
        0,
        0,
        64,
        56,
        len(segments),
        0,
        0,
        0,
    )
    for kind, flags, offset, address, size in segments:
        header += struct.pack("<IIQQQQQQ", kind, flags, offset, address, address, size, size, 4096)
    return (header.ljust(512, b"\0") + interpreter).ljust(4096, b"\0")


def failure(engine: Engine, image: str, command: list[str], **options: Any) -> KernelError:
    with pytest.raises(KernelError) as caught:
        engine.run(image, command, **options)
    error = caught.value
    assert error.operation
    assert os.strerror(error.errno) in str(error)
    assert error.hint in str(error)
    assert "\n" not in str(error)
    return error


@pytest.mark.parametrize(
    ("command", "number", "hint"),
    [
        (["no-such-program"], errno.ENOENT, "no such program"),
        (["/no/such/program"], errno.ENOENT, "no such program"),
        (["/bin/busybox/x"], errno.ENOTDIR, "no such program"),
        (["dangling"], errno.ENOENT, "no such program"),
        (["/bin/loop"], errno.ELOOP, ""),
        ([""], errno.ENOENT, "no such program"),
        (["/bin/plain"], errno.EACCES, "may not be executed"),
        (["plain"], errno.EACCES, "may not be executed"),
        (["/etc"], errno.EACCES, "a directory"),
        (["/bin/lost"], errno.ENOENT, "interpreter"),
        (["lost"], errno.ENOENT, "interpreter"),
        (["/bin/dynamic"], errno.ENOENT, "interpreter"),
        (["/bin/text"], errno.ENOEXEC, "not a program for this machine"),
        (["/bin/empty"], errno.ENOEXEC, "not a program for this machine"),
        (["/bin/foreign"], errno.ENOEXEC, "not a program for this machine"),
    ],
)  # fmt: skip
def test_programs(engine: Engine, broken: str, command: list[str], number: int, hint: str) -> None:
    # What only an execve finds out, an init reports as a shell does, with 126 or 127: test_options_work.py.
    for init in (False, True) if number != errno.ENOEXEC and hint != "interpreter" else (False,):
        error = failure(engine, broken, command, init=init)
        assert (error.errno, error.operation, error.path) == (number, "execute", command[0])
        assert hint in error.hint


def test_a_directory_that_may_not_be_searched(engine: Engine, broken: str) -> None:
    error = failure(engine, broken, ["/secret/tool"], user="web")
    assert (error.errno, error.operation, error.path) == (errno.EACCES, "execute", "/secret/tool")
    assert "directories can be searched" in error.hint


@pytest.mark.parametrize(
    ("user", "number", "operation", "hint"),
    [
        ("nobody-here", errno.ENOENT, "find the user", "/etc/passwd"),
        ("web:nobody-here", errno.ENOENT, "find the group", "/etc/group"),
        ("33:nobody-here", errno.ENOENT, "find the group", "/etc/group"),
        ("4294967295", errno.ERANGE, "find the user", ""),
        ("0:4294967295", errno.ERANGE, "find the group", ""),
        ("18446744073709551616", errno.ERANGE, "find the user", ""),
        ("-1", errno.ENOENT, "find the user", "/etc/passwd"),
        ("70000", errno.EINVAL, "set the", ""),
    ],
)  # fmt: skip
def test_users(engine: Engine, user: str, number: int, operation: str, hint: str) -> None:
    error = failure(engine, "busybox", ["true"], user=user)
    assert error.errno == number
    assert error.operation.startswith(operation)
    assert hint in error.hint


def test_additional_groups(engine: Engine) -> None:
    error = failure(engine, "busybox", ["true"], group_add=["nobody-here"])
    assert (error.errno, error.operation, error.path) == (errno.ENOENT, "find the group", "nobody-here")


def test_bind_source_missing(engine: Engine, tmp_path: Path) -> None:
    error = failure(engine, "busybox", ["true"], mounts=[f"type=bind,source={tmp_path}/none,target=/x"])
    assert isinstance(error, FileNotFoundError)
    assert (error.operation, error.path) == ("open the source of the bind mount", f"{tmp_path}/none")
    assert "create it first" in error.hint
    assert not (tmp_path / "none").exists()


def test_volume_source_that_cannot_be_made(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(fastdock.FastdockError, match=str(tmp_path)):
        engine.run("busybox", ["true"], volumes=[f"{tmp_path}/file/x:/x"])


def test_mount_onto_something_of_another_kind(engine: Engine, tmp_path: Path) -> None:
    error = failure(engine, "busybox", ["true"], volumes=[f"{tmp_path}:/etc/passwd"])
    assert (error.errno, error.path) == (errno.EINVAL, "/etc/passwd")
    (tmp_path / "file").touch()
    error = failure(engine, "busybox", ["true"], volumes=[f"{tmp_path}/file:/etc"])
    assert (error.errno, error.path) == (errno.EINVAL, "/etc")


@pytest.mark.parametrize("cwd", ["/etc/passwd", "/proc/self/fd/0"])
def test_working_directories(engine: Engine, cwd: str) -> None:
    error = failure(engine, "busybox", ["true"], cwd=cwd, stdin=fastdock.DEVNULL)
    assert error.path == cwd
    assert error.operation in ("change the working directory to", "open the mount point")


def test_a_missing_working_directory_is_made(engine: Engine) -> None:
    """As docker run does."""
    assert engine.run("busybox", ["pwd"], cwd="/not/yet", stdout=fastdock.PIPE).stdout == b"/not/yet\n"


@pytest.mark.parametrize("environment", [{"A": "x" * 2**17}, {f"A{n}": "x" * 100_000 for n in range(80)}])
def test_environment_too_large(engine: Engine, environment: dict[str, str]) -> None:
    error = failure(engine, "busybox", ["true"], env=environment)
    assert (error.errno, error.operation) == (errno.E2BIG, "execute")
    assert "ARG_MAX" in error.hint


def test_arguments_too_large(engine: Engine) -> None:
    assert failure(engine, "busybox", ["true", "x" * 2**17]).errno == errno.E2BIG


def test_no_command(engine: Engine) -> None:
    with pytest.raises(SpecError, match="no command: the image busybox has none"):
        engine.run("busybox", [])
    with pytest.raises(SpecError, match="no command"):
        engine.run("busybox")


def test_nul_bytes(engine: Engine) -> None:
    error = failure(engine, "busybox", ["true", "a\0b"])
    assert error.errno == errno.EINVAL
    with pytest.raises(SpecError, match="NUL"):
        engine.run("busybox", ["true"], env={"A": "\0"})
    with pytest.raises(SpecError):
        engine.run("busybox", ["true"], user="0\0")
    with pytest.raises(SpecError):
        engine.run("busybox", ["true"], cwd="/\0")
    with pytest.raises(SpecError):
        engine.run("busybox", ["true"], sysctls={"net.ipv4.ip_forward\0x": "1"})
    with pytest.raises(SpecError):
        engine.run("busybox", ["true"], tmpfs=["/x:size=1m\0"])


def test_unknown_image(engine: Engine) -> None:
    with pytest.raises(fastdock.ImageNotFound, match="nowhere-at-all"):
        engine.run("nowhere-at-all", ["true"], pull="never")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sysctls": {"kernel.panic": "1"}}, "belongs to no namespace"),
        ({"sysctls": {"net.//.kernel.panic": "1"}}, "belongs to no namespace"),
        ({"sysctls": {"net/../kernel/panic": "1"}}, "belongs to no namespace"),
        ({"sysctls": {"net.ipv4.ip_forward": "1"}, "network": "host"}, "would change the host's"),
        ({"sysctls": {"kernel.shmmax": "1"}, "ipc": "host"}, "would change the host's"),
        ({"ulimits": {"nosuch": 1}}, "is unknown"),
        ({"devices": ["/dev/no-such-device"]}, "No such file"),
        ({"devices": ["/etc/passwd"]}, "not a device"),
        ({"cap_add": ["NO_SUCH"]}, "unknown capability"),
        ({"security_opt": ["colour=red"]}, "unknown option"),
        ({"security_opt": ["seccomp=/no/such/profile"]}, "No such file"),
        ({"uts": "host", "hostname": "x"}, "contradicts"),
        ({"pid": "container:x"}, "neither host nor private"),
    ],
)  # fmt: skip
def test_options_that_cannot_be(engine: Engine, options: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        engine.run("busybox", ["true"], **options)


def test_sysctl_that_does_not_exist(engine: Engine) -> None:
    error = failure(engine, "busybox", ["true"], sysctls={"net.ipv4.no_such": "1"})
    assert (error.errno, error.operation) == (errno.ENOENT, "write the sysctl")
    assert "no_such" in error.path


def test_limits_that_the_kernel_refuses(engine: Engine) -> None:
    error = failure(engine, "busybox", ["true"], ulimits={"nofile": 2**40})
    assert (error.errno, error.operation, error.path) == (errno.EPERM, "set the resource limit", "nofile")
    error = failure(engine, "busybox", ["true"], cpuset_cpus="4000")
    assert error.operation == "set the cgroup limit"
    assert "cpuset.cpus" in error.path


def test_memory_limit_below_what_a_process_needs(engine: Engine) -> None:
    with pytest.raises(LimitError, match="minimum is 6m"):
        engine.run("busybox", ["true"], memory="5m")


def test_controller_absent(engine: Engine) -> None:
    """A machine's kernel may lack a controller: hugetlb of a size that no machine has stands for it."""
    from fastdock import _core

    limits = _core.Limits()
    limits.hugetlb = {"3MB": 3 << 20}
    planned = plan_of(base_of(engine.store.get("busybox")), options_from({}), seccomp_cache="")
    planned.plan.argv = ["true"]
    session = _core.Session.current(engine.root, engine.run_directory, engine.cgroup_parent)
    with pytest.raises(KernelError) as caught:
        _core.Container.start(session, planned.plan, limits=limits, own_ids=True, in_memory=True)
    assert "3MB" in caught.value.path
    assert caught.value.hint


class TestLayers:
    @pytest.mark.here  # Linux 6.1 takes layers by name, in 4 KiB of options
    @pytest.mark.parametrize("count", [127, 400])
    def test_hundreds(self, engine: Engine, tmp_path: Path, count: int) -> None:
        """More than 4 KiB of mount options, of which overlayfs's mount(2) takes no more."""
        assert self._run(engine, self._stack(engine, tmp_path, count)) == f"{count}\n".encode()

    def test_too_many(self, engine: Engine, tmp_path: Path) -> None:
        layers = self._stack(engine, tmp_path, 1) * 501
        with pytest.raises(KernelError) as caught:
            self._run(engine, layers)
        assert "500" in caught.value.hint
        assert "50" in caught.value.path

    def test_missing(self, engine: Engine, tmp_path: Path) -> None:
        layers = [*self._stack(engine, tmp_path, 1), str(tmp_path / "gone")]
        with pytest.raises(KernelError) as caught:
            self._run(engine, layers)
        assert (caught.value.errno, caught.value.operation) == (errno.ENOENT, "open the layer")
        assert caught.value.path == str(tmp_path / "gone")
        assert "repair" in caught.value.hint

    def test_no_directory(self, engine: Engine, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(KernelError) as caught:
            self._run(engine, [*self._stack(engine, tmp_path, 1), str(tmp_path / "file")])
        assert caught.value.operation

    @staticmethod
    def _stack(engine: Engine, directory: Path, count: int) -> list[str]:
        """``count`` layers: busybox, and one-file ones above it, of which the topmost has the count."""
        layers = list(base_of(engine.store.get("busybox")).layers)
        for number in range(len(layers), count):
            layer = directory / str(number)
            layer.mkdir()
            (layer / "count").write_text(f"{number + 1}\n")
            layers.append(str(layer))
        return layers

    @staticmethod
    def _run(engine: Engine, layers: list[str]) -> bytes:
        from fastdock import _core

        base = base_of(engine.store.get("busybox"))._replace(layers=tuple(layers))
        planned = plan_of(base, options_from({}), seccomp_cache="")
        plan = planned.plan
        read, write = os.pipe()
        try:
            plan.argv, plan.stdio = ["cat", "/count"], [0, write, 2]
            session = _core.Session.current(engine.root, engine.run_directory, engine.cgroup_parent)
            container = _core.Container.start(session, plan, limits=planned.limits)
            assert container.wait() == (0, 0)
            container.finish()
            return os.read(read, 100)
        finally:
            os.close(read)
            os.close(write)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for next to nothing."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m,nr_inodes=300", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_no_space_for_the_state(small_disk: Path) -> None:
    with Engine(small_disk / "state") as engine:
        engine.images.import_tar(io.BytesIO(busybox_tar()), "busybox")
        engine.run("busybox", ["true"], storage="disk")
        before = sorted(os.listdir(small_disk / "state/containers"))
        number = 0
        try:
            while True:
                (small_disk / f"full{number}").touch()
                number += 1
        except OSError as error:
            assert error.errno == errno.ENOSPC
        error = failure(engine, "busybox", ["true"], storage="disk")
        assert error.errno == errno.ENOSPC
        assert "full" in error.hint
        assert sorted(os.listdir(small_disk / "state/containers")) == before


def test_no_space_inside_is_the_container_s_matter(engine: Engine) -> None:
    script = "head -c 3000000 /dev/zero > /t/x 2>/dev/null; echo $?"
    done = engine.run("busybox", ["sh", "-c", script], tmpfs={"/t": "size=1m"}, stdout=fastdock.PIPE)
    assert done.stdout == b"1\n"


# Limits of namespaces hold per user namespace (namespaces(7)): in one of our own they disturb nobody.
_CONFINED = """
import os, sys, fastdock
ready, go = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    libc = __import__("ctypes").CDLL(None, use_errno=True)
    assert libc.unshare(0x10000000 | 0x20000) == 0  # CLONE_NEWUSER | CLONE_NEWNS
    os.write(ready[1], b"r")
    os.read(go[0], 1)
    open(f"/proc/sys/user/max_{sys.argv[2]}_namespaces", "w").write("0")
    from fastdock import _core
    engine = fastdock.Engine(sys.argv[1])
    plan = _core.LaunchPlan(argv=["/bin/true"])
    name = {"mnt": "mount"}.get(sys.argv[2], sys.argv[2])
    plan.set_namespace(name, "new")
    session = _core.Session.current(engine.root, engine.run_directory, engine.cgroup_parent)
    try:
        _core.Container.start(session, plan, own_ids=name == "user")
    except fastdock.KernelError as error:
        print(error.errno, error.operation, error.hint, sep="\\n", flush=True)
        os._exit(0)
    os._exit(1)
os.read(ready[0], 1)
for name in ("uid_map", "gid_map"):
    open(f"/proc/{pid}/{name}", "w").write("0 0 4294967295")
os.write(go[1], b"g")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.parametrize("kind", ["user", "mnt", "pid", "net", "uts", "ipc", "cgroup"])
def test_namespaces_forbidden(engine: Engine, kind: str) -> None:
    command = [sys.executable, "-c", _CONFINED, str(engine.root), kind]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    number, operation, hint = done.stdout.splitlines()
    assert int(number) in (errno.ENOSPC, errno.EPERM, errno.EUSERS)
    assert operation
    assert "namespace" in hint


def test_without_root(tmp_path: Path) -> None:
    """An ordinary user gets one clear error, and nothing is made."""
    program = (
        "import fastdock.builtin_images, fastdock.engine, fastdock.process, importlib, os, sys\nfastdock.run\nos.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try:\n    fastdock.Engine(sys.argv[1]).run(['true'])\n"
        "except fastdock.FastdockError as error:\n    print(type(error).__name__, error)\n"
    )
    tmp_path.chmod(0o777)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "x")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
