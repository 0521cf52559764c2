"""Memory that an engine keeps for 1, 10 and 100 idle containers, beside the containers' own processes."""

from __future__ import annotations

from typing import Any

import pytest

from common import note
from fastdock.bench.peers import Missing
from fastdock.bench.suites import Bench, memory
from fastdock.bench.tables import memory_text


def test_memory_of_idle_containers(bench: Bench, benchmark: Any, name: str) -> None:
    """PSS of daemons, shims and monitors, and the kernel's memory; a VM's process counts whole."""
    benchmark.disabled = True  # not a time: the figures are in extra_info and in the table at the end
    peer = bench.peers.get(name)
    if peer is None:
        benchmark(lambda: None)
        pytest.skip(f"{name}: {bench.missing[name]}")
    counts = (1, 4) if peer.kind == "vm" else (1, 10, 100)
    try:
        found = benchmark(lambda: memory(peer, counts))
    except Missing as reason:
        pytest.skip(f"{name}: {reason}")
    benchmark.extra_info["footprints"] = [vars(one) for one in found]
    note(memory_text({name: found}, {}))
