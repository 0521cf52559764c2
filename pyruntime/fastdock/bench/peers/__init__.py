"""The ways to run a workload that are measured side by side."""

from __future__ import annotations

from pathlib import Path

from .bare import Bare, Floor, FloorDisk
from .base import Missing, Peer, Running
from .engines import Docker, Lxc, Podman
from .oci import Crun, CrunCurrent, CrunCurrentFull, CrunFull, Runc, RuncFull
from .ours import Fastdock, FastdockDetached, FastdockDisk, FastdockShell
from .sandbox import Bubblewrap, Sandlock
from .vm import CloudHypervisor, Firecracker, MicrovmEmulated, MicrovmKvm, Q35Emulated, Q35Kvm

__all__ = ["PEERS", "Missing", "Peer", "Running", "make_peers"]

PEERS: tuple[type[Peer], ...] = (
    Fastdock,
    FastdockDisk,
    FastdockDetached,
    FastdockShell,
    Bare,
    Floor,
    FloorDisk,
    Bubblewrap,
    Sandlock,
    Crun,
    CrunFull,
    CrunCurrent,
    CrunCurrentFull,
    Runc,
    RuncFull,
    Lxc,
    Podman,
    Docker,
    MicrovmKvm,
    MicrovmEmulated,
    Q35Kvm,
    Q35Emulated,
    Firecracker,
    CloudHypervisor,
)


def make_peers(scratch: Path, names: list[str] | None = None) -> list[Peer]:
    """All peers, or those whose name or kind is named; KeyError for a word that names none."""
    known = [kind(scratch) for kind in PEERS]
    if names is None:
        return known
    for name in names:
        if not any(name in (peer.name, peer.kind) for peer in known):
            raise KeyError(name)
    return [peer for peer in known if peer.name in names or peer.kind in names]
