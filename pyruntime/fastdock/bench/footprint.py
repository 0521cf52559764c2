"""Memory: what processes really use (PSS), and what the kernel keeps for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Footprint", "Share", "cgroup_charges", "kernel_bytes", "pss", "share_of"]

# Slab covers dentries, inodes and cgroup structures; Percpu the counters of cgroups and network namespaces.
_KERNEL_FIELDS = ("Slab", "PageTables", "KernelStack", "Percpu")


@dataclass(frozen=True)
class Share:
    """The proportional share of memory of some processes, in bytes."""

    anonymous: int  # what they have written: their own
    files: int  # page cache of the files they map: one copy for all containers of an image


@dataclass(frozen=True)
class Footprint:
    """Bytes that ``containers`` idle containers take."""

    containers: int
    engine: int  # daemons, shims, monitors; a VM's process as a whole, its guest's memory with it
    workload: int  # the programs themselves, without what they map from files
    kernel: int  # slabs, page tables, stacks and per-processor data
    page_cache: int = 0  # of the files that the programs map
    charged: int = 0  # by the containers' own memory cgroups, of all of the above
    guest: int = 0  # what the guests' kernels say that is in use in them: part of a VM's process

    def per_container(self, idle: Footprint) -> float:
        """Engine bytes that one container adds to the engine without containers."""
        return (self.engine - idle.engine) / self.containers


def share_of(pids: Iterable[int]) -> Share:
    """Pages divided by their sharers (smaps_rollup in proc(5)); a process that is gone counts nothing."""
    anonymous = files = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        kibibytes = {
            line.partition(":")[0]: line.split()[1] for line in text.splitlines() if line.endswith(" kB")
        }
        whole, mapped = int(kibibytes["Pss"]), int(kibibytes["Pss_File"])
        files += mapped
        anonymous += whole - mapped
    return Share(anonymous * 1024, files * 1024)


def pss(pids: Iterable[int]) -> int:
    """The proportional set size of some processes in bytes."""
    share = share_of(pids)
    return share.anonymous + share.files


def cgroup_charges(pids: Iterable[int]) -> int:
    """What the memory cgroups of these processes are charged with, in bytes.

    Cgroups that the caller is in too do not count: there is no container's own (fastdock makes none without a limit).
    """
    ours = _memory_cgroup("self")
    total = 0
    for path in {_memory_cgroup(pid) for pid in pids} - {None}:
        assert path is not None
        if ours is not None and (ours == path or path in ours.parents):
            continue
        for name in ("memory.usage_in_bytes", "memory.current"):
            try:
                total += int((path / name).read_text())
            except OSError:
                continue
    return total


def _memory_cgroup(pid: int | str) -> Path | None:
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return None
    unified = None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return Path(f"/sys/fs/cgroup/memory{path}")
        if not controllers:
            unified = Path(f"/sys/fs/cgroup{path}")
    return unified


def kernel_bytes() -> int:
    """What the kernel holds in slabs, page tables, stacks and per-processor data, in bytes."""
    values = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        values[name] = int(value.split()[0])
    return sum(values.get(field, 0) for field in _KERNEL_FIELDS) * 1024
