"""fastdock-oci under those who call OCI runtimes: containerd (ctr), Docker and Podman, as Debian packages them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from oci_bundle import make_rootfs, program

from tests.system.daemons import need, sh, stopped, wait_for_socket

pytestmark = [pytest.mark.system, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


def disk() -> str:
    """Where overlayfs may have its upper directories: the root of vmrun's machine is an overlay itself."""
    return "/scratch" if os.path.ismount("/scratch") else "/var/tmp"


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A short path, for sockets, with a root file system."""
    need("busybox")
    with tempfile.TemporaryDirectory(prefix="fdoci-", dir=disk(), ignore_cleanup_errors=True) as directory:
        make_rootfs(Path(directory, "rootfs"))
        yield Path(directory)


@pytest.fixture(scope="module")
def containerd(place: Path) -> Iterator[Path]:
    """A containerd of our own; the path of its socket."""
    need("containerd", "ctr", "containerd-shim-runc-v2")
    address = place / "containerd.sock"
    plugins = ["io.containerd.grpc.v1.cri"] + [
        f"io.containerd.snapshotter.v1.{name}" for name in ("btrfs", "zfs", "devmapper")
    ]
    (place / "containerd.toml").write_text(
        f'version = 2\nroot = "{place}/cd-root"\nstate = "{place}/cd-state"\n'
        f'disabled_plugins = {json.dumps(plugins)}\n[grpc]\n  address = "{address}"\n'
    )
    with (place / "containerd.log").open("wb") as log:
        process = subprocess.Popen(
            ["containerd", "--config", str(place / "containerd.toml")], stdout=log, stderr=log
        )
    wait_for_socket(address, process)
    yield address
    stopped(process)


class Ctr:
    """ctr, with fastdock-oci as the runtime of its containers."""

    def __init__(self, address: Path, rootfs: Path) -> None:
        self.base = ["ctr", "--address", str(address)]
        self.rootfs = rootfs

    def __call__(self, *words: str, status: int | None = 0) -> str:
        return sh(*self.base, *words, status=status)

    def run(self, *flags: str, status: int = 0) -> str:
        *options, name = flags[: flags.index("--")]
        command = flags[flags.index("--") + 1 :]
        return self(
            "run",
            "--runc-binary",
            program(),
            *options,
            "--rootfs",
            str(self.rootfs),
            name,
            *command,
            status=status,
        )


@pytest.fixture
def ctr(containerd: Path, place: Path) -> Iterator[Ctr]:
    made = Ctr(containerd, place / "rootfs")
    yield made
    for name in made("tasks", "ls", "--quiet").split():
        made("tasks", "kill", "--signal", "SIGKILL", name, status=None)
        made("tasks", "rm", "--force", name, status=None)
    for name in made("containers", "ls", "--quiet").split():
        made("containers", "rm", name, status=None)


def test_ctr_run(ctr: Ctr) -> None:
    assert ctr.run("--rm", "one", "--", "sh", "-c", "id -u; ls /proc/self/fd | wc -l").split() == ["0", "4"]
    ctr.run("--rm", "two", "--", "sh", "-c", "exit 7", status=7)


def test_ctr_task(ctr: Ctr) -> None:
    """A detached task: exec, metrics, pause, kill, delete."""
    ctr.run("--detach", "task", "--", "sleep", "1000")
    assert "RUNNING" in ctr("tasks", "ls")
    assert ctr("tasks", "exec", "--exec-id", "e1", "task", "echo", "inside") == "inside\n"
    ctr("tasks", "exec", "--exec-id", "e2", "task", "sh", "-c", "exit 5", status=5)
    metrics = ctr("tasks", "metrics", "--format", "json", "task")
    assert "memory" in metrics
    ctr("tasks", "pause", "task")
    assert "PAUSED" in ctr("tasks", "ls")
    ctr("tasks", "resume", "task")
    assert "sleep" in Path(f"/proc/{ctr('tasks', 'ps', 'task').split()[2]}/cmdline").read_text()
    ctr("tasks", "kill", "--signal", "SIGKILL", "task")
    deadline = time.monotonic() + 60
    while "STOPPED" not in ctr("tasks", "ls") and time.monotonic() < deadline:
        pass
    ctr("tasks", "delete", "task")
    assert ctr("tasks", "ls", "--quiet") == ""


def test_ctr_out_of_memory(ctr: Ctr, containerd: Path) -> None:
    """containerd hears of it."""
    with subprocess.Popen([*ctr.base, "events"], stdout=subprocess.PIPE, text=True) as events:
        assert events.stdout is not None
        ctr.run("--detach", "--memory-limit", str(8 << 20), "oom", "--", "sleep", "1000")
        command = ["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"]
        ctr("tasks", "exec", "--exec-id", "greedy", "oom", *command, status=137)
        assert any("/tasks/oom" in line for line in events.stdout)
        events.kill()


@pytest.mark.here
def test_ctr_has_the_terminal(ctr: Ctr, place: Path) -> None:
    need("script")
    words = [
        *ctr.base,
        "run",
        "--rm",
        "--tty",
        "--runc-binary",
        program(),
        "--rootfs",
        str(place / "rootfs"),
        "tty",
        "tty",
    ]
    assert "/dev/pts/0" in sh("script", "-qec", " ".join(words), "/dev/null")


class Docker:
    """A dockerd of our own, with fastdock-oci as the runtime."""

    def __init__(self, address: Path) -> None:
        self.base = ["docker", "--host", f"unix://{address}"]

    def __call__(self, *words: str, status: int | None = 0) -> str:
        return sh(*self.base, *words, status=status)

    def run(self, *words: str, status: int = 0) -> str:
        return self("run", "--network", "none", *words, status=status)


@pytest.fixture(scope="module")
def docker(place: Path, containerd: Path) -> Iterator[Docker]:
    need("dockerd", "docker")
    address = place / "docker.sock"
    flags = [
        "--host",
        f"unix://{address}",
        "--data-root",
        str(place / "docker"),
        "--exec-root",
        str(place / "docker-run"),
        "--pidfile",
        str(place / "docker.pid"),
        "--bridge",
        "none",
        "--iptables=false",
        "--ip-masq=false",
        "--containerd",
        str(containerd),
        "--add-runtime",
        f"fastdock={program()}",
        "--default-runtime",
        "fastdock",
    ]
    with (place / "docker.log").open("wb") as log:
        process = subprocess.Popen(["dockerd", *flags], stdout=log, stderr=log)
    wait_for_socket(address, process)
    made = Docker(address)
    with subprocess.Popen(["tar", "-C", str(place / "rootfs"), "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(
            [*made.base, "import", "-", "busybox"], stdin=tar.stdout, stdout=subprocess.DEVNULL, check=True
        )
    yield made
    for name in made("ps", "--all", "--quiet").split():
        made("rm", "--force", name, status=None)
    stopped(process)


def test_docker_run(docker: Docker) -> None:
    text = docker.run(
        "--rm",
        "--memory",
        "64m",
        "--hostname",
        "inside",
        "--env",
        "A=b",
        "busybox",
        "sh",
        "-c",
        "id -u; hostname; echo $A; grep -E 'Seccomp:|CapEff' /proc/self/status",
    )
    assert text.split() == ["0", "inside", "b", "CapEff:", "00000000a80425fb", "Seccomp:", "2"]
    docker.run("--rm", "busybox", "sh", "-c", "exit 9", status=9)


@pytest.mark.here
def test_docker_exit_codes(docker: Docker) -> None:
    docker.run("--rm", "busybox", "nosuch", status=127)
    docker.run("--rm", "busybox", "/tmp", status=126)


def test_docker_options(docker: Docker, place: Path) -> None:
    volume = place / "volume"
    volume.mkdir(exist_ok=True)
    text = docker.run(
        "--rm",
        "--read-only",
        "--tmpfs",
        "/tmp",
        "--user",
        "1000:1000",
        "--volume",
        f"{volume}:/v:ro",
        "--init",
        "--device",
        "/dev/zero:/dev/mine",
        "--ulimit",
        "nofile=99:99",
        "--sysctl",
        "net.ipv4.ip_forward=1",
        "busybox",
        "sh",
        "-c",
        "id -u; touch /tmp/x && echo t; touch /x /v/x 2>/dev/null || echo r; ulimit -n;"
        "head -c 1 /dev/mine | wc -c; cat /proc/sys/net/ipv4/ip_forward; echo $$",
    )
    words = text.split()
    assert words[:-1] == ["1000", "t", "r", "99", "1", "1"]
    assert words[-1] != "1", "docker's init is process 1"
    assert int(docker.run("--rm", "--privileged", "busybox", "sh", "-c", "ls /dev | wc -l")) > 20


def test_docker_detached(docker: Docker) -> None:
    """exec, stats, update, pause, top, kill."""
    name = "detached"
    docker.run("--detach", "--name", name, "--memory", "64m", "busybox", "sleep", "1000")
    assert docker("exec", "--user", "1000", name, "id", "-u") == "1000\n"
    docker("exec", name, "sh", "-c", "exit 5", status=5)
    assert "64MiB" in docker("stats", "--no-stream", name)
    docker("update", "--memory", "32m", "--memory-swap", "64m", name)
    assert "32MiB" in docker("stats", "--no-stream", name)
    docker("pause", name)
    assert "Paused" in docker("ps")
    docker("unpause", name)
    assert "sleep 1000" in docker("top", name)
    docker("kill", name)
    assert docker("wait", name) == "137\n"
    docker("rm", name)


@pytest.mark.here
def test_docker_terminals(docker: Docker) -> None:
    need("script")
    base = " ".join(docker.base)
    text = sh(
        "script",
        "-qec",
        f"{base} run --network none --rm --tty busybox sh -c 'tty; test -c /dev/console && echo console'",
        "/dev/null",
    )
    assert re.findall(r"/dev/pts/0|console", text) == ["/dev/pts/0", "console"]


@pytest.mark.here
def test_docker_twenty_at_once(docker: Docker) -> None:
    command = [*docker.base, "run", "--rm", "--network", "none", "busybox", "sh", "-c", "echo done"]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
        for _ in range(20)
    ]
    assert [process.communicate(timeout=120)[0] for process in processes] == ["done\n"] * 20


class Podman:
    """Podman with a store of its own.  Its default limits need CAP_SYS_RESOURCE; these do not."""

    def __init__(self, place: Path) -> None:
        self.configuration = place / "containers.conf"
        self.configuration.write_text('[containers]\ndefault_ulimits = ["nofile=512:512", "nproc=512:512"]\n')
        self.base = [
            "podman",
            "--root",
            str(place / "pm-root"),
            "--runroot",
            str(place / "pm-run"),
            "--tmpdir",
            str(place / "pm-tmp"),
            "--cgroup-manager",
            "cgroupfs",
            "--events-backend",
            "file",
            "--runtime",
            program(),
        ]
        self.flags = ["--network", "none"]

    def __call__(self, *words: str, status: int | None = 0) -> str:
        environment = {**os.environ, "CONTAINERS_CONF": str(self.configuration)}
        return sh(*self.base, *words, status=status, env=environment)

    def run(self, *words: str, status: int = 0) -> str:
        return self("run", *self.flags, *words, status=status)


@pytest.fixture(scope="module")
def podman(place: Path) -> Iterator[Podman]:
    need("podman", "conmon")
    made = Podman(place)
    archive = place / "rootfs.tar"
    sh("tar", "-C", str(place / "rootfs"), "-cf", str(archive), ".")
    made("import", str(archive), "localhost/busybox:latest")
    yield made
    made("rm", "--all", "--force", "--time", "0", status=None)
    made("rmi", "--all", "--force", status=None)
    # Podman leaves these; another one's may hold processes.
    for directory in sorted(Path("/sys/fs/cgroup").glob("*/libpod_parent/**/"), reverse=True):
        with contextlib.suppress(OSError):
            directory.rmdir()


def test_podman_run(podman: Podman) -> None:
    text = podman.run("--rm", "busybox", "sh", "-c", "id -u; grep Seccomp: /proc/self/status")
    assert text.split() == ["0", "Seccomp:", "2"]
    podman.run("--rm", "busybox", "sh", "-c", "exit 3", status=3)
    podman.run("--rm", "busybox", "nosuch", status=127)
    podman.run("--rm", "busybox", "/tmp", status=126)


@pytest.mark.here
def test_podman_user_namespace(podman: Podman) -> None:
    text = podman.run(
        "--rm",
        "--uidmap",
        "0:100000:65536",
        "busybox",
        "sh",
        "-c",
        "id -u; cat /proc/self/uid_map; touch /x && stat -c %u /x",
    )
    assert text.split() == ["0", "0", "100000", "65536", "0"]


def test_podman_detached(podman: Podman) -> None:
    podman.run("--detach", "--name", "sleeper", "busybox", "sleep", "1000")
    assert podman("exec", "--user", "1000", "sleeper", "id", "-u") == "1000\n"
    podman("exec", "sleeper", "sh", "-c", "exit 4", status=4)
    podman("pause", "sleeper")
    podman("unpause", "sleeper")
    assert "sleeper" in podman("stats", "--no-stream", "sleeper")
    podman("kill", "sleeper")
    assert podman("wait", "sleeper").strip() == "137"
    podman("rm", "--force", "sleeper")


@pytest.mark.here
def test_podman_exec_terminal(podman: Podman) -> None:
    need("script")
    podman.run("--detach", "--name", "tty", "busybox", "sleep", "1000")
    assert "/dev/pts/0" in sh(
        "script",
        "-qec",
        " ".join(
            [
                "env",
                f"CONTAINERS_CONF={podman.configuration}",
                *podman.base,
                "exec",
                "--interactive",
                "--tty",
                "tty",
                "tty",
            ]
        ),
        "/dev/null",
    )
    podman("rm", "--force", "--time", "0", "tty")


def remove_podmans_directories() -> None:
    """On cgroup v1 Podman makes a pod's directories also for controllers that are not mounted, in the tmpfs at
    /sys/fs/cgroup, and its own `pod rm` then fails at the files in them, whatever the runtime."""
    top = Path("/sys/fs/cgroup")
    if (top / "cgroup.controllers").exists():
        return
    for parent in top.glob("*/libpod_parent"):
        if not parent.parent.is_mount():
            shutil.rmtree(parent)
            parent.parent.rmdir()


def test_podman_pod(podman: Podman) -> None:
    """Its pause image is made of catatonit, without a network.  The containers share what pods share."""
    need("catatonit")
    podman("pod", "create", "--name", "pod", "--network", "none", "--share", "net,uts,ipc,pid")
    try:
        podman("run", "--detach", "--pod", "pod", "--name", "first", "busybox", "sleep", "1000")
        podman("run", "--detach", "--pod", "pod", "--name", "second", "busybox", "sleep", "1000")
        show = "for n in net uts ipc pid mnt; do readlink /proc/self/ns/$n; done"
        first, second = (podman("exec", name, "sh", "-c", show).split() for name in ("first", "second"))
        assert first[:4] == second[:4]
        assert first[4] != second[4]
        assert podman("exec", "first", "ps").count("sleep 1000") == 2
        assert podman("exec", "first", "hostname") == "pod\n"
        assert {line.split()[2] for line in podman("pod", "stats", "--no-stream").splitlines()[1:]} >= {
            "first",
            "second",
        }
        podman("pod", "pause", "pod")
        podman("pod", "unpause", "pod")
        podman("pod", "stop", "--time", "1", "pod")
        assert podman("pod", "inspect", "--format", "{{.State}}", "pod").strip() == "Exited"
    finally:
        remove_podmans_directories()
        podman("pod", "rm", "--force", "--time", "0", "pod")
    assert podman("pod", "ps", "--quiet") == ""
