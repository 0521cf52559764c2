"""Start times from a process that holds much memory: ``python -m fastdock.bench.caller DIRECTORY MIB ROUNDS NAME...``.

Prints {"seconds": {name: [seconds, ...]}, "missing": {name: reason}} as JSON.  ``fork`` is what a library does that
forks: its page tables are copied.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from .measure import Subject, measure
from .peers import Missing, make_peers
from .peers.engines import Docker
from .workload import WORKLOADS, rootfs_for


def _hold(mebibytes: int) -> mmap.mmap | None:
    """Anonymous memory, every page of it written once and none of it huge, as a heap of small objects has it."""
    if not mebibytes:
        return None
    memory = mmap.mmap(-1, mebibytes << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    for offset in range(0, len(memory), mmap.PAGESIZE):
        memory[offset] = 1
    return memory


def _fork(argv: list[str]) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            os.execv(argv[0], argv)
        finally:
            os._exit(127)
    if os.waitpid(pid, 0)[1]:
        raise OSError(f"{argv[0]} failed")


def main() -> None:
    scratch, mebibytes, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # it stops what it has started
    workload = WORKLOADS["true"]
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        subjects = []
        for peer in make_peers(scratch, [*sys.argv[4:], "fork+exec"]):
            try:
                stack.enter_context(peer.opened())
                peer.prepare(workload)
            except Missing as reason:
                missing[peer.name] = str(reason)
                continue
            subjects.append(Subject(peer.name, peer.run, 5 if isinstance(peer, Docker) else 1))
        bare = workload.outside(rootfs_for(workload, scratch))
        subjects.append(Subject("fork (copying)", lambda: _fork(bare)))
        held = _hold(mebibytes)
        found = measure(subjects, rounds=rounds)
        del held
    missing.update({name: one.failure for name, one in found.items() if one.failure is not None})
    seconds = {name: one.values for name, one in found.items() if one.failure is None}
    print(json.dumps({"seconds": seconds, "missing": missing}))


if __name__ == "__main__":
    main()
