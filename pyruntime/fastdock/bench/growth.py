"""How the start time grows: with running containers, with layers, with the caller's memory, with starters at once."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .measure import Series, Subject, measure, why
from .peers import Missing, Peer, Running
from .peers.engines import Docker
from .peers.ours import Fastdock
from .suites import BUDGET, Bench, Progress, at_once, parallel
from .workload import WORKLOADS, rootfs_for

__all__ = ["Curve", "by_caller_memory", "by_layers", "by_running", "by_starters", "layered_archive"]

MIB = 1 << 20
_AT_ONCE = 16  # idle containers that are started, and ended, at the same time


@dataclass
class Curve:
    """Start times by something that grows; ``ended`` says why a line stops before the others, or is not there."""

    title: str
    along: str
    lines: dict[str, dict[float, Series]] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    method: str = ""

    def add(self, at: float, found: Mapping[str, Series]) -> None:
        """Takes one point of every subject that has samples."""
        for name, series in found.items():
            if series.failure is not None or not series.samples:
                self.ended.setdefault(name, f"at {at:g}: {series.failure or 'no sample'}")
            else:
                self.lines.setdefault(name, {})[at] = series


def _chosen(bench: Bench, names: Iterable[str], curve: Curve) -> list[Peer]:
    """The peers of these names; those that are not here are listed in the curve."""
    for name in names:
        if name not in bench.peers:
            curve.ended[name] = bench.missing.get(name, "not chosen")
    return [bench.peers[name] for name in names if name in bench.peers]


def by_running(
    bench: Bench,
    names: Sequence[str],
    counts: Sequence[int],
    *,
    samples: int = 10,
    limit: float = 240.0,
    progress: Progress | None = None,
) -> Curve:
    """Start time beside 0, 1, … idle containers of the same engine.

    A line ends where its next containers would take more than ``limit`` seconds to start, at the rate of those before.
    """
    curve = Curve("start time beside running containers", "running containers")
    curve.method = (
        f"the idle containers are started {_AT_ONCE} at once, then {samples} starts one after the other, 1 to warm up; "
        f"one engine after the other; a line ends where the next containers would take more than {limit:g} s"
    )
    for peer in _chosen(bench, names, curve):
        try:
            _beside_running(peer, counts, samples, limit, curve, progress)
        except Exception as error:  # a peer may fail in any way: the others go on
            curve.ended[peer.name] = str(error) if isinstance(error, Missing) else why(error)
    return curve


def _beside_running(
    peer: Peer, counts: Sequence[int], samples: int, limit: float, curve: Curve, progress: Progress | None
) -> None:
    running: list[Running] = []
    each = 0.0  # seconds for one more, at the rate of the last step
    try:
        for number, count in enumerate(counts):
            if progress:
                progress(number, len(counts), f"{peer.name} beside {count}")
            more = count - len(running)
            if more * each > limit:
                curve.ended[peer.name] = (
                    f"before {count}: {more} more containers would take {more * each:.0f} s to start"
                )
                return
            if more:
                peer.prepare(WORKLOADS["sleep"])
                begin = time.monotonic()
                at_once(_AT_ONCE, more, lambda: running.append(peer.start()))
                each = (time.monotonic() - begin) / more
            peer.prepare(WORKLOADS["true"])
            curve.add(count, measure([Subject(peer.name, peer.run)], rounds=samples, warmup=1))
    finally:
        if progress:
            progress(len(counts), len(counts), f"ending those of {peer.name}")
        left = list(reversed(running))
        at_once(_AT_ONCE, len(left), lambda: left.pop().stop())


def by_starters(
    bench: Bench,
    names: Sequence[str],
    threads: Sequence[int],
    *,
    starts: int = 64,
    progress: Progress | None = None,
) -> Curve:
    """Time per start (the reciprocal of the rate) with 1, 2, … threads that start containers."""
    curve = Curve("time per start with several starters at once", "starters at once")
    here = [peer.name for peer in _chosen(bench, names, curve)]
    curve.method = (
        f"{starts} starts for each number, of a slow engine as many as take {BUDGET:g} s one after the other, "
        "one for each starter at least; 3 rounds in turn, 1 to warm up"
    )
    for number, count in enumerate(threads):
        if progress:
            progress(number, len(threads), f"{count} at once")
        found = parallel(bench, count, starts=max(starts, count), rounds=3, names=here)
        curve.add(count, found.series)
        curve.ended.update({name: reason for name, reason in found.missing.items() if name in here})
    return curve


def by_caller_memory(
    scratch: Path, megabytes: Sequence[int], names: Sequence[str] = ("fastdock", "crun"), *, rounds: int = 15
) -> Curve:
    """Start time from a Python process that holds so many MiB: each size is a process of its own (caller.py).

    Beside ``names`` always a bare process, started by posix_spawn and by fork.
    """
    curve = Curve("start time from a process with much memory", "memory of the caller, MiB")
    curve.method = (
        f"{rounds} rounds in turn, 2 to warm up, docker in every fifth; each size is a process of its own"
    )
    free = _available() - (1 << 30)
    for size in megabytes:
        if size * MIB > free:
            curve.ended["from there on"] = f"at {size} MiB: the machine has {free // MIB} MiB to give away"
            break
        place = scratch / f"caller-{size}"
        command = [sys.executable, "-m", "fastdock.bench.caller", str(place), str(size), str(rounds), *names]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as caller:
            try:
                printed, said = caller.communicate()
            except BaseException:
                caller.terminate()  # it stops what it has started
                caller.communicate()
                raise
            finally:
                shutil.rmtree(place, ignore_errors=True)
        if caller.returncode:
            curve.ended[f"{size} MiB"] = " ".join(said.split())[-200:]
            continue
        found = json.loads(printed)
        curve.ended.update(found["missing"])
        curve.add(
            size, {name: Series(name, dict(enumerate(values))) for name, values in found["seconds"].items()}
        )
    return curve


def _available() -> int:
    """Bytes that programs may take without swapping (MemAvailable in proc_meminfo(5))."""
    text = Path("/proc/meminfo").read_text()
    return int(text.partition("MemAvailable:")[2].split()[0]) * 1024


def layered_archive(rootfs: Path, layers: int, target: Path) -> Path:
    """An image of so many layers as `docker save` writes it: the root file system, and small files on top of it."""
    blobs: list[bytes] = []
    for number in range(layers):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            if number == 0:
                tar.add(rootfs, arcname=".")
            else:
                words = f"layer {number}\n".encode()
                info = tarfile.TarInfo(f"layers/{number}")
                info.size = len(words)
                tar.addfile(info, io.BytesIO(words))
        blobs.append(buffer.getvalue())
    digests = [hashlib.sha256(blob).hexdigest() for blob in blobs]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
    }
    written = json.dumps(config).encode()
    config_name = f"{hashlib.sha256(written).hexdigest()}.json"
    manifest = [
        {
            "Config": config_name,
            "RepoTags": [f"fdbench/layers:{layers}"],
            "Layers": [f"{d}/layer.tar" for d in digests],
        }
    ]
    with tarfile.open(target, "w") as tar:
        files = [
            (config_name, written),
            *((f"{d}/layer.tar", blob) for d, blob in zip(digests, blobs, strict=True)),
            ("manifest.json", json.dumps(manifest).encode()),
        ]
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return target


def by_layers(
    bench: Bench, scratch: Path, names: Sequence[str], counts: Sequence[int], *, rounds: int = 15
) -> Curve:
    """Start time of images with 1, 2, … layers, by the engines among ``names`` that have layers."""
    curve = Curve("start time by layers of the image", "layers")
    curve.method = f"{rounds} rounds in turn, 1 to warm up"
    rootfs = rootfs_for(WORKLOADS["true"], scratch)
    layered = []
    for peer in _chosen(bench, names, curve):
        if isinstance(peer, (Docker, Fastdock)):
            layered.append(peer)
        else:
            curve.ended[peer.name] = "it runs a root directory: nothing in layers"
    for count in counts:
        archive, image = scratch / "layers.tar", f"fdbench/layers:{count}"
        layered_archive(rootfs, count, archive)
        runs = [Subject(peer.name, peer.run_archive(archive, image)) for peer in layered]
        archive.unlink()
        curve.add(count, measure(runs, rounds=rounds, warmup=1))
    return curve
