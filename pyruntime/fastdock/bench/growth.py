"""How the start time grows: with running containers, with layers, with the caller's memory, with starters at once."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .measure import Series, Subject, measure
from .peers import Missing, Peer, Running
from .peers.engines import Docker
from .peers.ours import Fastdock
from .suites import Bench, parallel
from .workload import WORKLOADS, rootfs_for

__all__ = ["Curve", "by_caller_memory", "by_layers", "by_running", "by_starters", "layered_archive"]

MIB = 1 << 20


@dataclass
class Curve:
    """Start times by something that grows; ``ended`` says why a line stops before the others."""

    title: str
    along: str
    lines: dict[str, dict[float, Series]] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)

    def add(self, at: float, found: Mapping[str, Series]) -> None:
        """Takes one point of every subject that has samples."""
        for name, series in found.items():
            if series.failure is not None or not series.samples:
                self.ended.setdefault(name, f"at {at:g}: {series.failure or 'no sample'}")
            else:
                self.lines.setdefault(name, {})[at] = series


def by_running(
    bench: Bench, names: Iterable[str], counts: Sequence[int], *, samples: int = 10, limit: float = 180.0
) -> Curve:
    """Start time beside 0, 1, … idle containers of the same engine.

    A line ends where its next containers would take more than ``limit`` seconds to start.
    """
    curve = Curve("start time beside running containers", "running containers")
    for name in names:
        peer = bench.peers.get(name)
        if peer is None:
            curve.ended[name] = bench.missing.get(name, "not chosen")
            continue
        try:
            _beside_running(peer, counts, samples, limit, curve)
        except Missing as reason:
            curve.ended[name] = str(reason)
    return curve


def _beside_running(peer: Peer, counts: Sequence[int], samples: int, limit: float, curve: Curve) -> None:
    running: list[Running] = []
    try:
        for count in counts:
            peer.prepare(WORKLOADS["sleep"])
            begin = time.monotonic()
            while len(running) < count:
                if time.monotonic() - begin > limit:
                    curve.ended[peer.name] = f"{count} containers do not start within {limit:g} s"
                    return
                running.append(peer.start())
            peer.prepare(WORKLOADS["true"])
            curve.add(count, measure([Subject(peer.name, peer.run)], rounds=samples, warmup=1))
    finally:
        for one in reversed(running):
            one.stop()


def by_starters(bench: Bench, names: Sequence[str], threads: Sequence[int], *, starts: int = 64) -> Curve:
    """Time per start (the reciprocal of the rate) with 1, 2, … threads that start containers."""
    curve = Curve("time per start with several starters at once", "starters at once")
    for count in threads:
        curve.add(count, parallel(bench, count, starts=max(starts, count), rounds=3, names=names).series)
    return curve


def by_caller_memory(scratch: Path, megabytes: Sequence[int], *, rounds: int = 15) -> Curve:
    """Start time from a Python process that holds so many MiB: each size is a process of its own (caller.py)."""
    curve = Curve("start time from a process with much memory", "memory of the caller, MiB")
    for size in megabytes:
        command = [
            sys.executable,
            "-m",
            "fastdock.bench.caller",
            str(scratch / f"caller-{size}"),
            str(size),
            str(rounds),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            curve.ended[f"{size} MiB"] = done.stderr.strip()[-200:]
            continue
        found = json.loads(done.stdout)
        curve.add(size, {name: Series(name, dict(enumerate(values))) for name, values in found.items()})
    return curve


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


def by_layers(bench: Bench, scratch: Path, counts: Sequence[int], *, rounds: int = 15) -> Curve:
    """Start time of images with 1, 2, … layers, in fastdock and in docker."""
    curve = Curve("start time by layers of the image", "layers")
    rootfs = rootfs_for(WORKLOADS["true"], scratch)
    for count in counts:
        archive = layered_archive(rootfs, count, scratch / "layers.tar")
        runs: list[Subject] = []
        for peer in bench.peers.values():
            run = _loaded(peer, archive, f"fdbench/layers:{count}")
            if run is not None:
                runs.append(Subject(peer.name, run))
        archive.unlink()
        curve.add(count, measure(runs, rounds=rounds, warmup=1))
    return curve


def _loaded(peer: Peer, archive: Path, name: str) -> Callable[[], float | None] | None:
    if isinstance(peer, (Docker, Fastdock)):
        return peer.run_archive(archive, name)
    return None
