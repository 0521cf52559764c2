"""Memory: what processes really use (PSS), and what the kernel keeps for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Footprint", "kernel_bytes", "pss"]

# Slab covers dentries, inodes and cgroup structures; Percpu the counters of cgroups and network namespaces.
_KERNEL_FIELDS = ("Slab", "PageTables", "KernelStack", "Percpu")


@dataclass(frozen=True)
class Footprint:
    """Bytes that ``containers`` idle containers take: of the engine's processes, the workload's own, the kernel."""

    containers: int
    engine: int
    workload: int
    kernel: int

    def per_container(self, idle: Footprint) -> float:
        """Engine bytes that one container adds to the engine without containers."""
        return (self.engine - idle.engine) / self.containers


def pss(pids: Iterable[int]) -> int:
    """The proportional set size of some processes in bytes; one that is gone counts nothing."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total * 1024


def kernel_bytes() -> int:
    """What the kernel holds in slabs, page tables, stacks and per-processor data, in bytes."""
    values = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        values[name] = int(value.split()[0])
    return sum(values.get(field, 0) for field in _KERNEL_FIELDS) * 1024
