"""OCI runtimes, called as a container engine calls them: on a bundle, without an engine around."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import time
from pathlib import Path

from ..spawn import spawn
from ..workload import Workload
from .base import Peer, Running, find_program, first_line

__all__ = ["Crun", "CrunFull", "OciRuntime", "Runc", "RuncFull"]

_CLONE_NEWNS, _CLONE_FS, _MS_PRIVATE_REC, _MNT_DETACH = 0x20000, 0x200, 0x44000, 2
_IDS = [{"containerID": 0, "hostID": 1_000_000, "size": 65536}]


class OciRuntime(Peer):
    """`RUNTIME run ID` of a bundle: new namespaces, limits, no overlay (a bundle brings a root directory)."""

    program = ""
    full = False
    isolation = "namespaces, cgroups, read-only root; no user namespace, no seccomp, no overlay"

    def open(self) -> str:
        self._program = find_program(self.program)
        self._count = 0
        self._namespaces = _without_cgroup2() if self.program == "crun" else None
        return first_line(self._program, "--version")

    def close(self) -> None:
        for fd in getattr(self, "_namespaces", None) or ():
            os.close(fd)
        super().close()

    def prepare(self, workload: Workload) -> None:
        self._bundle = self.scratch / f"bundle-{workload.name}"
        self._bundle.mkdir(parents=True, exist_ok=True)
        subprocess.run([self._program, "spec"], cwd=self._bundle, check=False, capture_output=True)
        config = json.loads((self._bundle / "config.json").read_text())
        self._adapt(config, workload)
        (self._bundle / "config.json").write_text(json.dumps(config))
        self._expect = workload.expect

    def _adapt(self, config: dict[str, object], workload: Workload) -> None:
        process, linux, root = (config[key] for key in ("process", "linux", "root"))
        assert isinstance(process, dict) and isinstance(linux, dict) and isinstance(root, dict)
        process.update(terminal=False, args=workload.inside(),
                       env=["PATH=/bin:/usr/bin", "TERM=xterm"])
        # More than the hard limit is refused where CAP_SYS_RESOURCE is missing.
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": min(soft, 1024), "hard": min(hard, 1024)}]
        root["path"] = str(self.rootfs(workload))
        linux["resources"] = {"memory": {"limit": 256 << 20}, "pids": {"limit": 100},
                              "cpu": {"quota": 100_000, "period": 100_000}}
        if self.full:
            linux["namespaces"].append({"type": "user"})
            linux.update(uidMappings=_IDS, gidMappings=_IDS, seccomp=_docker_profile())
            # A user namespace cannot take the host's /sys/fs/cgroup or an unmapped tty group.
            config["mounts"] = [m for m in config["mounts"] if m["type"] != "cgroup"]  # type: ignore[attr-defined]

    def run(self) -> float | None:
        self._count += 1
        name = f"fdbench-{os.getpid()}-{self._count}"
        argv = [self._program, "--root", str(self.scratch / "root"), "run", "--bundle", str(self._bundle), name]
        if self._namespaces is None:
            return spawn(argv, expect=self._expect)
        inside, outside = self._namespaces
        _enter(inside)
        try:
            return spawn(argv, expect=self._expect)
        finally:
            _enter(outside)

    def start(self) -> Running:
        self._count += 1
        name = f"fdbench-{os.getpid()}-{self._count}"
        base = [self._program, "--root", str(self.scratch / "root")]
        pid_file = self.scratch / f"{name}.pid"
        argv = [*base, "run", "--detach", "--pid-file", str(pid_file), "--bundle", str(self._bundle), name]
        if self._namespaces:
            _enter(self._namespaces[0])
        try:
            # Its stdio outlives the command: no pipes.
            subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        finally:
            if self._namespaces:
                _enter(self._namespaces[1])
        return _Detached([*base, "delete", "--force", name], int(pid_file.read_text()), self._namespaces)


class _Detached(Running):
    def __init__(self, remove: list[str], pid: int, namespaces: tuple[int, int] | None) -> None:
        self._remove, self._pid, self._namespaces = remove, pid, namespaces

    def own_pids(self) -> list[int]:
        return [self._pid]

    def stop(self) -> None:
        if self._namespaces:
            _enter(self._namespaces[0])
        try:
            subprocess.run(self._remove, check=False, capture_output=True)
            while Path(f"/proc/{self._pid}").exists() and _state(self._pid) not in "ZX":
                time.sleep(0.01)
        finally:
            if self._namespaces:
                _enter(self._namespaces[1])


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return "X"


class Crun(OciRuntime):
    name = program = "crun"


class Runc(OciRuntime):
    name = program = "runc"


class CrunFull(OciRuntime):
    name, program, full = "crun, full", "crun", True
    isolation = "namespaces with user ids, cgroups, seccomp (Docker's profile); no overlay"


class RuncFull(OciRuntime):
    name, program, full = "runc, full", "runc", True
    isolation = CrunFull.isolation


def _docker_profile() -> dict[str, object]:
    """Docker's profile as Debian ships it, cut down to this architecture; an engine would do this at each create."""
    source = json.loads(Path("/usr/share/containers/seccomp.json").read_text())
    rules = [{"names": rule["names"], "action": rule["action"], "args": rule.get("args") or []}
             for rule in source["syscalls"] if not (rule.get("includes") or {}) and rule["action"] == "SCMP_ACT_ALLOW"]
    return {"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": rules}


_libc = ctypes.CDLL(None, use_errno=True)


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _without_cgroup2() -> tuple[int, int] | None:
    """(mount namespace without /sys/fs/cgroup/unified, our own), where crun needs that.

    crun refuses a hybrid machine whose v2 tree has a controller; in a mount namespace without that tree it works.
    """
    unified = Path("/sys/fs/cgroup/unified/cgroup.controllers")
    if os.geteuid() != 0 or not unified.exists() or not unified.read_text().strip():
        return None
    outside = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    # setns on a mount namespace wants a file system context that no other thread shares.
    if _libc.unshare(_CLONE_FS) or _libc.unshare(_CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    _libc.mount(None, b"/", None, _MS_PRIVATE_REC, None)
    _libc.umount2(b"/sys/fs/cgroup/unified", _MNT_DETACH)
    inside = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    _enter(outside)
    return inside, outside
