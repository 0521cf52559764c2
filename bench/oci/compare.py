"""Whole-process times of OCI runtimes, interleaved: `run`, or `create` + `start` + `delete`, of a bundle.

    python bench/oci/compare.py --runtime build/release/csrc/oci/fastdock-oci --runtime crun --runtime runc

Each round runs every runtime once, in changing order; the medians and the ratio to the first runtime are
printed.  ``--pause 0.5`` spaces the starts, as people start containers; ``--seccomp`` adds Docker's profile,
``--limits`` memory, CPU and process limits, ``--no-cgroup-mount`` leaves /sys/fs/cgroup away.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SECCOMP = Path("/usr/share/containers/seccomp.json")
CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
                "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SYS_CHROOT", "CAP_MKNOD",
                "CAP_AUDIT_WRITE", "CAP_SETFCAP"]  # fmt: skip


def docker_seccomp() -> dict[str, Any]:
    """The engines' default profile, resolved for CAPABILITIES as an engine resolves it."""
    profile = json.loads(SECCOMP.read_text())
    rules = []
    for rule in profile["syscalls"]:
        includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
        wanted = set(includes.get("caps") or [])
        if not wanted <= set(CAPABILITIES) or set(excludes.get("caps") or []) & set(CAPABILITIES):
            continue
        if includes.get("arches") and not set(includes["arches"]) & {"amd64", "x86", "x32"}:
            continue
        if "amd64" in (excludes.get("arches") or []):
            continue
        kept = {key: rule[key] for key in ("names", "action", "args", "errnoRet") if rule.get(key)}
        rules.append(kept)
    architectures = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    return {"defaultAction": profile["defaultAction"], "architectures": architectures, "syscalls": rules}


def make_bundle(directory: Path, arguments: argparse.Namespace) -> None:
    """A bundle like that of `runc spec`, around a static busybox."""
    root = directory / "rootfs"
    for name in ("bin", "proc", "dev", "sys", "tmp"):
        (root / name).mkdir(parents=True)
    shutil.copy("/usr/bin/busybox", root / "bin/busybox")
    (root / "bin/true").symlink_to("busybox")
    subprocess.run(["runc", "spec"], cwd=directory, check=True)
    config = json.loads((directory / "config.json").read_text())
    config["process"].update(terminal=False, args=["/bin/true"])
    for kind in ("bounding", "effective", "permitted"):
        config["process"]["capabilities"][kind] = CAPABILITIES
    config["process"]["capabilities"].pop("ambient", None)
    config["process"]["noNewPrivileges"] = False
    if arguments.no_cgroup_mount:
        config["mounts"] = [mount for mount in config["mounts"] if mount["type"] != "cgroup"]
    if arguments.seccomp:
        config["linux"]["seccomp"] = docker_seccomp()
    if arguments.limits:
        config["linux"]["resources"].update(
            memory={"limit": 256 << 20},
            cpu={"shares": 512, "quota": 50000, "period": 100000},
            pids={"limit": 100},
        )
    (directory / "config.json").write_text(json.dumps(config))


def spawn(command: list[str]) -> os.wait_result:  # type: ignore[name-defined]
    """Runs it and waits; its resource usage."""
    pid = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    if status != 0:
        sys.exit(f"{command}: status {status}")
    return usage


def measure(runtime: str, bundle: Path, root: Path, mode: str) -> tuple[float, int]:
    """Milliseconds, and the peak memory of the process in KiB."""
    name = f"bench-{os.getpid()}"
    base = [*runtime.split(), "--root", str(root)]
    peak = 0
    begin = time.perf_counter()
    if mode == "run":
        peak = spawn([*base, "run", "--bundle", str(bundle), name]).ru_maxrss
    elif mode == "start":
        for step in (["create", "--bundle", str(bundle), name], ["start", name], ["delete", "--force", name]):
            peak = max(peak, spawn([*base, *step]).ru_maxrss)
    else:
        peak = spawn([*base, "exec", "target", "/bin/true"]).ru_maxrss
    return (time.perf_counter() - begin) * 1000, peak


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runtime", action="append", required=True)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between two starts")
    parser.add_argument("--mode", choices=("run", "start", "exec"), default="run")
    parser.add_argument("--seccomp", action="store_true")
    parser.add_argument("--limits", action="store_true")
    parser.add_argument("--no-cgroup-mount", action="store_true")
    arguments = parser.parse_args()
    times: dict[str, list[float]] = {runtime: [] for runtime in arguments.runtime}
    memory: dict[str, int] = dict.fromkeys(arguments.runtime, 0)
    with tempfile.TemporaryDirectory(prefix="fastdock-oci-bench-", dir="/dev/shm") as scratch:
        bundle = Path(scratch, "bundle")
        make_bundle(bundle, arguments)
        roots = {runtime: Path(scratch, str(number)) for number, runtime in enumerate(times)}
        if arguments.mode == "exec":
            start_targets(bundle, roots)
        for turn in range(arguments.rounds + 2):
            order = list(times)
            random.shuffle(order)
            for runtime in order:
                time.sleep(arguments.pause)
                milliseconds, peak = measure(runtime, bundle, roots[runtime], arguments.mode)
                if turn >= 2:  # the first two warm the caches
                    times[runtime].append(milliseconds)
                    memory[runtime] = max(memory[runtime], peak)
        if arguments.mode == "exec":
            for runtime, root in roots.items():
                subprocess.run(
                    [*runtime.split(), "--root", str(root), "delete", "--force", "target"], check=True
                )
    first = statistics.median(times[arguments.runtime[0]])
    for runtime, values in times.items():
        median = statistics.median(values)
        low = sorted(values)[len(values) // 10]
        print(f"{median:8.2f} ms  (p10 {low:.2f})  x{median / first:.2f}  {memory[runtime]} KiB  {runtime}")


def start_targets(bundle: Path, roots: dict[str, Path]) -> None:
    """A container that sleeps, for each runtime."""
    sleeping = bundle.parent / "sleeping"
    shutil.copytree(bundle, sleeping, symlinks=True)
    (sleeping / "rootfs/bin/sleep").symlink_to("busybox")
    config = json.loads((sleeping / "config.json").read_text())
    config["process"]["args"] = ["/bin/sleep", "1000"]
    for number, (runtime, root) in enumerate(roots.items()):
        config["linux"]["cgroupsPath"] = f"/fastdock-bench-{os.getpid()}-{number}"
        (sleeping / "config.json").write_text(json.dumps(config))
        command = [
            *runtime.split(),
            "--root",
            str(root),
            "run",
            "--detach",
            "--bundle",
            str(sleeping),
            "target",
        ]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
