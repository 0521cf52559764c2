"""Many starts in a row leave nothing behind: no memory, no descriptor, no mount, no cgroup, no file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from common import note
from fastdock.bench.footprint import pss
from fastdock.bench.peers.ours import Fastdock
from fastdock.bench.suites import Bench
from fastdock.bench.workload import WORKLOADS

STARTS = 10_000


def _census(peer: Fastdock) -> dict[str, int]:
    mounts = Path("/proc/self/mountinfo").read_text()
    groups = sum(1 for _ in Path("/sys/fs/cgroup").glob(f"*/{peer.cgroup_parent}/**/"))
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "mounts": mounts.count("\n"),
        "files": sum(1 for _ in peer.scratch.glob("root/containers/**/*")),
        "cgroups": groups,
        "PSS KiB": pss([os.getpid()]) >> 10,
    }


def test_ten_thousand_starts(bench: Bench, benchmark: Any) -> None:
    """The census before and after 10,000 starts; memory may move by 2 MiB."""
    benchmark.disabled = True
    peer = bench.peers.get("fastdock")
    if not isinstance(peer, Fastdock):
        pytest.skip(f"fastdock: {bench.missing.get('fastdock')}")
    peer.prepare(WORKLOADS["true"])
    for _ in range(200):
        peer.run()
    before = _census(peer)

    def starts() -> None:
        for _ in range(STARTS):
            peer.run()

    benchmark(starts)
    after = _census(peer)
    benchmark.extra_info.update(before=before, after=after)
    note(f"{STARTS} starts: before {before}, after {after}")
    memory_before, memory_after = before.pop("PSS KiB"), after.pop("PSS KiB")
    assert after == before
    assert memory_after - memory_before < 2048
