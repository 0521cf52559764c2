"""OCI runtimes, called as a container engine calls them: on a bundle, without an engine around."""

from __future__ import annotations

import itertools
import json
import os
import resource
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from ..spawn import CommandFailed, spawn
from ..workload import Workload
from .base import Missing, Peer, Running, find_program, first_line
from .cgroup1 import Cgroup1Namespace

__all__ = ["Crun", "CrunCurrent", "CrunCurrentFull", "CrunFull", "OciRuntime", "Runc", "RuncFull"]

_IDS = [{"containerID": 0, "hostID": 1_000_000, "size": 65536}]


class OciRuntime(Peer):
    """`RUNTIME run ID` of a bundle: new namespaces, limits, no overlay (a bundle brings a root directory)."""

    program = ""
    full = False
    isolation = "namespaces, cgroups, read-only root; no user namespace, no seccomp, no overlay"

    def open(self) -> str:
        self._program = find_program(self.program)
        self._count = itertools.count()
        self._namespace = Cgroup1Namespace()
        return first_line(self._program, "--version")

    def close(self) -> None:
        if hasattr(self, "_namespace"):
            for left in sorted((self.scratch / "root").glob(f"{self.mark}*")):
                delete = [self._program, "--root", str(self.scratch / "root"), "delete", "--force", left.name]
                with self._namespace.entered():
                    subprocess.run(delete, check=False, capture_output=True)
            self._namespace.close()
        super().close()

    def prepare(self, workload: Workload) -> None:
        self._bundle = self.scratch / f"bundle-{workload.name}"
        self._bundle.mkdir(parents=True, exist_ok=True)
        (self._bundle / "config.json").unlink(missing_ok=True)  # `spec` leaves one that is there
        subprocess.run([self._program, "spec"], cwd=self._bundle, check=False, capture_output=True)
        config = json.loads((self._bundle / "config.json").read_text())
        self._adapt(config, workload)
        (self._bundle / "config.json").write_text(json.dumps(config))
        self._expect = workload.expect

    def _adapt(self, config: dict[str, Any], workload: Workload) -> None:
        process, linux, root = (config[key] for key in ("process", "linux", "root"))
        process.update(terminal=False, args=workload.inside(), env=["PATH=/bin:/usr/bin", "TERM=xterm"])
        # More than the hard limit is refused where CAP_SYS_RESOURCE is missing.
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": min(soft, 1024), "hard": min(hard, 1024)}]
        root["path"] = str(self.rootfs(workload))
        linux["resources"] = {
            "memory": {"limit": 256 << 20},
            "pids": {"limit": 100},
            "cpu": {"quota": 100_000, "period": 100_000},
        }
        if self.full:
            linux["namespaces"].append({"type": "user"})
            linux.update(uidMappings=_IDS, gidMappings=_IDS, seccomp=_docker_profile())
            # A user namespace cannot take the host's /sys/fs/cgroup or an unmapped tty group.
            config["mounts"] = [m for m in config["mounts"] if m["type"] != "cgroup"]

    def run(self) -> float | None:
        name = f"{self.mark}{next(self._count)}"
        argv = [
            self._program,
            "--root",
            str(self.scratch / "root"),
            "run",
            "--bundle",
            str(self._bundle),
            name,
        ]
        with self._namespace.entered():
            return spawn(argv, expect=self._expect)

    def start(self) -> Running:
        name = f"{self.mark}{next(self._count)}"
        base = [self._program, "--root", str(self.scratch / "root")]
        pid_file = self.scratch / f"{name}.pid"
        argv = [*base, "run", "--detach", "--pid-file", str(pid_file), "--bundle", str(self._bundle), name]
        # Its stdio outlives the command: no pipes.  Nor /dev/null, which crun would give to the container's root.
        with self._namespace.entered(), tempfile.TemporaryFile() as stdio:
            if subprocess.run(argv, stdin=stdio, stdout=stdio, stderr=stdio, check=False).returncode:
                stdio.seek(0)
                raise CommandFailed(
                    f"{self.program} run --detach: {stdio.read()[-300:].decode(errors='replace')}"
                )
        return _Detached(base, name, int(pid_file.read_text()), self._namespace)


class _Detached(Running):
    def __init__(self, base: list[str], name: str, pid: int, namespace: Cgroup1Namespace) -> None:
        self._base, self._name, self._pid, self._namespace = base, name, pid, namespace

    def own_pids(self) -> list[int]:
        return [self._pid]

    def stop(self) -> None:
        with self._namespace.entered():
            subprocess.run([*self._base, "delete", "--force", self._name], check=False, capture_output=True)
        while _state(self._pid) not in "ZX":
            time.sleep(0.01)

    def run_inside(self) -> float | None:
        with self._namespace.entered():
            return spawn([*self._base, "exec", self._name, "/bin/true"])


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return "X"


class Crun(OciRuntime):
    name = program = "crun"


class CrunCurrent(OciRuntime):
    """A crun beside the distribution's: the program that ``FASTDOCK_BENCH_CRUN`` names."""

    name = "crun current"

    def open(self) -> str:
        self.program = os.environ.get("FASTDOCK_BENCH_CRUN", "")
        if not self.program:
            raise Missing("FASTDOCK_BENCH_CRUN does not name a crun")
        return super().open()


class CrunCurrentFull(CrunCurrent):
    name, full = "crun current full", True
    isolation = "namespaces with user ids, cgroups, seccomp (Docker's profile); no overlay"


class Runc(OciRuntime):
    name = program = "runc"


class CrunFull(OciRuntime):
    name, program, full = "crun full", "crun", True
    isolation = "namespaces with user ids, cgroups, seccomp (Docker's profile); no overlay"


class RuncFull(OciRuntime):
    name, program, full = "runc full", "runc", True
    isolation = CrunFull.isolation


def _docker_profile() -> dict[str, object]:
    """Docker's profile as Debian ships it, cut down to this architecture; an engine would do this at each create."""
    source = json.loads(Path("/usr/share/containers/seccomp.json").read_text())
    rules = []
    for rule in source["syscalls"]:
        only = rule.get("includes") or {}
        here = "amd64" in only.get("arches", ["amd64"])
        if rule["action"] == "SCMP_ACT_ALLOW" and here and not only.get("caps"):
            rules.append({"names": rule["names"], "action": rule["action"], "args": rule.get("args") or []})
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules,
    }
