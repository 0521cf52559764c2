"""Container engines as people call them: the whole command."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path

from ..spawn import CommandFailed, spawn
from ..workload import Workload
from .base import Missing, Peer, Running, find_program, first_line
from .cgroup1 import Cgroup1Namespace

__all__ = ["Docker", "Ended", "Lxc", "Podman"]

_REMOVED_AT_ONCE = 50


def _processes() -> dict[int, tuple[int, str]]:
    """pid -> (parent, command name) of every process there is."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            before, _, after = (entry / "stat").read_text().rpartition(")")
        except OSError:
            continue
        found[int(entry.name)] = (int(after.split()[1]), before.partition("(")[2])
    return found


class Podman(Peer):
    """podman run --rm on a root directory, with a store of its own."""

    name = "podman"
    isolation = "namespaces, cgroups, seccomp, overlay; no user namespace"

    def open(self) -> str:
        program = find_program("podman")
        self.short.mkdir(mode=0o700, exist_ok=True)
        self._base = [
            program,
            "--root",
            str(self.scratch / "root"),
            "--runroot",
            str(self.short / "run"),
            "--tmpdir",
            str(self.short / "tmp"),
            "--cgroup-manager",
            "cgroupfs",
            "--events-backend",
            "none",
        ]
        self._namespace = Cgroup1Namespace()
        return first_line(program, "--version")

    def _run(self, *more: str) -> list[str]:
        # More than the hard limit (podman's default) is refused where CAP_SYS_RESOURCE is missing.
        limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]
        return [
            *self._base,
            "run",
            *more,
            *limits,
            "--network",
            "none",
            "--cgroup-parent",
            f"/{self.mark}",
            "--memory",
            "256m",
            "--pids-limit",
            "100",
            "--rootfs",
            f"{self._root}:O",
            *self._inside,
        ]

    def prepare(self, workload: Workload) -> None:
        self._root, self._inside, self._expect = self.rootfs(workload), workload.inside(), workload.expect

    def run(self) -> float | None:
        with self._namespace.entered():
            return spawn(self._run("--rm"), expect=self._expect)

    def command(self, *words: str) -> list[str]:
        """A command line of this engine."""
        return [*self._base, *words]

    def start(self) -> Running:
        with self._namespace.entered():
            done = subprocess.run(self._run("--detach"), capture_output=True, text=True, check=True)
        return Ended(self._base, done.stdout.split()[-1], self._namespace)

    def keeper_pids(self) -> list[int]:
        marker = str(self.scratch).encode()
        return [
            pid for pid, (_, name) in _processes().items() if name == "conmon" and marker in _command(pid)
        ]

    def close(self) -> None:
        if hasattr(self, "_base"):
            with self._namespace.entered():
                subprocess.run(
                    [*self._base, "rm", "--all", "--force", "--time", "0"], capture_output=True, check=False
                )
                subprocess.run(
                    ["umount", str(self.scratch / "root/overlay")], capture_output=True, check=False
                )
            self._namespace.close()
        super().close()


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


class Ended(Running):
    """A container that a command line like docker's knows, ended by its `rm --force`."""

    def __init__(
        self,
        base: list[str],
        container: str,
        namespace: Cgroup1Namespace | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self._base, self._id, self._namespace, self._environment = base, container, namespace, environment

    def own_pids(self) -> list[int]:
        return [int(self._command("inspect", "--format", "{{.State.Pid}}", self._id).stdout)]

    def stop(self) -> None:
        self._command("rm", "--force", self._id)

    def run_inside(self) -> float | None:
        with self._namespace.entered() if self._namespace else nullcontext():
            return spawn([*self._base, "exec", self._id, "/bin/true"], env=self._environment)

    def _command(self, *words: str) -> subprocess.CompletedProcess[str]:
        with self._namespace.entered() if self._namespace else nullcontext():
            return subprocess.run(
                [*self._base, *words], capture_output=True, text=True, check=False, env=self._environment
            )


class Docker(Peer):
    """docker run --rm against a dockerd of our own: own socket, own roots, no bridge, stopped at the end."""

    name = "docker"
    isolation = "namespaces, cgroups, seccomp, overlay; no user namespace"
    network = "none"
    daemon_options: tuple[str, ...] = ("--bridge", "none", "--iptables=false", "--ip-masq=false")
    more_options: tuple[str, ...] = ()

    def open(self) -> str:
        client, daemon = find_program("docker"), find_program("dockerd")
        if os.geteuid() != 0:
            raise Missing("a dockerd of our own needs root")
        self.short.mkdir(mode=0o700, exist_ok=True)
        self._socket = str(self.short / "docker.sock")
        self._base = [client, "--host", f"unix://{self._socket}"]
        self._log = (self.scratch / "dockerd.log").open("wb")
        self._daemon = subprocess.Popen(
            [
                daemon,
                "--host",
                f"unix://{self._socket}",
                "--data-root",
                str(self.scratch / "data"),
                "--exec-root",
                str(self.short / "exec"),
                "--pidfile",
                str(self.scratch / "pid"),
                "--cgroup-parent",
                f"/{self.mark}",
                *self.daemon_options,
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            process_group=0,  # Ctrl-C is ours: it ends when we have removed its containers
        )
        deadline = time.monotonic() + 60
        while subprocess.run([*self._base, "version"], capture_output=True, check=False).returncode:
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                raise Missing("dockerd does not start: " + (self.scratch / "dockerd.log").read_text()[-200:])
            time.sleep(0.1)
        format_ = "client {{.Client.Version}}, daemon {{.Server.Version}}"
        return first_line(*self._base, "version", "--format", format_)

    def _run(self, *more: str) -> list[str]:
        return [
            *self._base,
            "run",
            *more,
            "--network",
            self.network,
            *self.more_options,
            "--memory",
            "256m",
            "--pids-limit",
            "100",
            "--cpus",
            "1",
            f"fdbench/{self._image}",
            *self._inside,
        ]

    def prepare(self, workload: Workload) -> None:
        self._image, self._inside, self._expect = workload.image, workload.inside(), workload.expect
        known = subprocess.run(
            [*self._base, "image", "inspect", f"fdbench/{workload.image}"], capture_output=True, check=False
        )
        if known.returncode:
            with subprocess.Popen(
                ["tar", "-C", str(self.rootfs(workload)), "-c", "."], stdout=subprocess.PIPE
            ) as tar:
                subprocess.run(
                    [*self._base, "import", "-", f"fdbench/{workload.image}"],
                    stdin=tar.stdout,
                    check=True,
                    capture_output=True,
                )

    def run(self) -> float | None:
        return spawn(self._run("--rm"), expect=self._expect)

    def start(self) -> Running:
        done = subprocess.run(self._run("--detach"), capture_output=True, text=True, check=True)
        return Ended(self._base, done.stdout.strip())

    def command(self, *words: str) -> list[str]:
        """A command line of this engine."""
        return [*self._base, *words]

    def run_archive(self, archive: Path, image: str) -> Callable[[], float | None]:
        """Loads an archive of `docker save`; the function runs the image's own command."""
        subprocess.run([*self._base, "load", "--input", str(archive)], capture_output=True, check=True)
        command = [*self._base, "run", "--rm", "--network", self.network, image]
        return lambda: spawn(command)

    def keeper_pids(self) -> list[int]:
        """dockerd, its containerd, and the shims, which leave that family: known by the path of their socket."""
        found, everyone = [self._daemon.pid], _processes()
        marker = f"{self.short}/".encode()
        for pid, (parent, name) in everyone.items():
            if parent == self._daemon.pid or (name.startswith("containerd") and marker in _command(pid)):
                found.append(pid)
        return sorted(set(found))

    def close(self) -> None:
        if hasattr(self, "_daemon"):
            # At its own end it would wait ten seconds for each that does not obey SIGTERM.
            listed = subprocess.run([*self._base, "ps", "--all", "--quiet"], capture_output=True, check=False)
            left = listed.stdout.decode().split()
            # 700 in one command never ended (docker 28 with a daemon 20.10); what stays goes with the daemon's
            # directory (leftovers.py).
            for first in range(0, len(left), _REMOVED_AT_ONCE):
                remove = [*self._base, "rm", "--force", *left[first : first + _REMOVED_AT_ONCE]]
                with suppress(subprocess.TimeoutExpired):
                    subprocess.run(remove, capture_output=True, check=False, timeout=60)
            self._daemon.send_signal(signal.SIGTERM)
            try:
                self._daemon.wait(30)
            except subprocess.TimeoutExpired:
                self._daemon.kill()
                self._daemon.wait()
            self._log.close()
        super().close()


class Lxc(Peer):
    """lxc-start in the foreground, with the program as the container's init."""

    name = "lxc"
    isolation = "namespaces, cgroups; no user namespace, no overlay"

    def open(self) -> str:
        self._program = find_program("lxc-start")
        self._count = itertools.count()
        return first_line(self._program, "--version")

    def prepare(self, workload: Workload) -> None:
        self._config, self._expect = self.scratch / f"{workload.name}.conf", workload.expect
        self._inside = workload.inside()
        self._config.write_text(
            f"lxc.rootfs.path = dir:{self.rootfs(workload)}\nlxc.uts.name = fdbench\n"
            "lxc.net.0.type = empty\nlxc.net.0.flags = up\nlxc.mount.auto = proc:mixed sys:ro\n"
            "lxc.autodev = 1\nlxc.tty.max = 0\nlxc.environment = PATH=/bin:/usr/bin\n"
            # Its own console loses output that is not a terminal's.
            "lxc.console.path = none\nlxc.cgroup.memory.limit_in_bytes = 256M\n"
        )

    def _argv(self, name: str, *mode: str) -> list[str]:
        return [
            self._program,
            "--name",
            name,
            "--rcfile",
            str(self._config),
            "--lxcpath",
            str(self.scratch),
            *mode,
            "--",
            *self._inside,
        ]

    def run(self) -> float | None:
        name = f"{self.mark}{next(self._count)}"
        try:
            return spawn(self._argv(name, "--foreground"), expect=self._expect, timeout=20)
        except CommandFailed:
            _Lxc(name, str(self.scratch)).stop()  # its monitor's death does not end a container
            raise

    def start(self) -> Running:
        name = f"{self.mark}{next(self._count)}"
        # No pipes: its monitor would keep them open.
        subprocess.run(
            self._argv(name, "--daemon"), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        return _Lxc(name, str(self.scratch))

    def keeper_pids(self) -> list[int]:
        marker = str(self.scratch).encode()
        return [pid for pid in _processes() if b"[lxc monitor]" in _command(pid) and marker in _command(pid)]


class _Lxc(Running):
    def __init__(self, name: str, path: str) -> None:
        self._options = ["--name", name, "--lxcpath", path]

    def own_pids(self) -> list[int]:
        done = subprocess.run(
            ["lxc-info", *self._options, "--pid", "--no-humanize"], capture_output=True, text=True, check=True
        )
        return [int(done.stdout)]

    def run_inside(self) -> float | None:
        return spawn([find_program("lxc-attach"), *self._options, "--", "/bin/true"])

    def stop(self) -> None:
        subprocess.run(["lxc-stop", "--kill", *self._options], capture_output=True, check=False)
