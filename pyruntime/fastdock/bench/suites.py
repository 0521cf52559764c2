"""What is measured: start latency, parallel starts, memory, growth.  Every function takes an open Bench."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from .footprint import Footprint, cgroup_charges, kernel_bytes, pss, share_of
from .machine import drop_caches
from .measure import Series, Subject, measure, timed, why
from .peers import Missing, Peer, Running, make_peers
from .peers.leftovers import end, processes_with, unmount_below
from .workload import WORKLOADS

__all__ = ["BUDGET", "Bench", "Comparison", "at_once", "memory", "parallel", "run_inside", "start"]

BUDGET = 4.0  # seconds, one after the other, for the starts of a slow engine in one batch
_SETTLE = 0.5  # seconds until a container's start is over and its process is only the workload
# Parents of its containers' cgroups that an engine leaves when it ends.
_LEFT_CGROUPS = ("lxc.pivot",)

Progress = Callable[[int, int, str], None]


@dataclass
class Comparison:
    """Subjects measured side by side: seconds by name, and why others were not measured."""

    title: str
    method: str
    series: dict[str, Series]
    missing: dict[str, str] = field(default_factory=dict)

    def measured(self) -> dict[str, Series]:
        """The subjects that have figures, fastest first."""
        good = {name: one for name, one in self.series.items() if one.samples and one.failure is None}
        return dict(sorted(good.items(), key=lambda item: item[1].median))

    def not_measured(self) -> dict[str, str]:
        """The others, each with its reason."""
        failed = {
            name: one.failure or "no sample"
            for name, one in self.series.items()
            if not one.samples or one.failure is not None
        }
        return {**self.missing, **failed}


class Bench:
    """Opens the peers (which may start a daemon) for a with block, and closes them."""

    def __init__(self, scratch: Path, names: list[str] | None = None) -> None:
        self._scratch, self._names = scratch, names
        self._stack = ExitStack()
        self.peers: dict[str, Peer] = {}
        self.versions: dict[str, str] = {}
        self.missing: dict[str, str] = {}

    def __enter__(self) -> Bench:
        # Containers with ids of their own walk down to the root file systems here.
        self._scratch.mkdir(mode=0o755, parents=True, exist_ok=True)
        with ExitStack() as stack:
            for peer in make_peers(self._scratch, self._names):
                try:
                    self.versions[peer.name] = stack.enter_context(peer.opened())
                    self.peers[peer.name] = peer
                except Missing as reason:
                    self.missing[peer.name] = str(reason)
                except Exception as error:  # a peer may fail in any way: the others go on
                    self.missing[peer.name] = why(error)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stack.close()
        finally:
            end(lambda: processes_with(f"{self._scratch}/"))
            unmount_below(self._scratch)
        for left in _LEFT_CGROUPS:
            for group in sorted(Path("/sys/fs/cgroup").glob(f"*/{left}")) if self.peers else []:
                with suppress(OSError):  # somebody uses it: theirs
                    group.rmdir()

    def prepared(
        self, workload: str, names: Iterable[str] | None = None
    ) -> tuple[list[Peer], dict[str, str]]:
        """The peers that can run a workload, made ready for it, and why the others cannot."""
        ready, missing = [], dict(self.missing)
        for name, peer in self.peers.items():
            if names is not None and name not in names:
                continue
            try:
                peer.prepare(WORKLOADS[workload])
                ready.append(peer)
            except Missing as reason:
                missing[name] = str(reason)
            except Exception as error:  # a peer may fail in any way: the others go on
                missing[name] = why(error)
        return ready, missing


def start(
    bench: Bench,
    workload: str = "true",
    *,
    rounds: int = 30,
    spacing: float = 0.0,
    cold: bool = False,
    names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Start, run, wait, clean up: the wall time of one workload by every peer."""
    peers, missing = bench.prepared(workload, names)
    if cold and os.geteuid() != 0:
        missing.update((peer.name, "dropping the page cache needs root") for peer in peers)
        peers = []
    subjects = [Subject(peer.name, peer.run, peer.every) for peer in peers]
    mode = (
        "page cache dropped before each"
        if cold
        else f"{spacing:g} s before each"
        if spacing
        else "back to back"
    )
    series = measure(
        subjects, rounds=rounds, spacing=spacing, before=drop_caches if cold else None, progress=progress
    )
    return Comparison(
        f"start to end of `{workload}`, {mode}", f"{rounds} rounds in turn, 2 to warm up", series, missing
    )


def parallel(
    bench: Bench,
    threads: int,
    *,
    starts: int = 40,
    workload: str = "true",
    rounds: int = 3,
    budget: float = BUDGET,
    names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """``starts`` starts by ``threads`` threads of this process; the samples are seconds per start (1 / throughput).

    Of a peer whose single start is slow, only as many as take ``budget`` seconds one after the other, but one for each
    thread at least: its rate shows as well.
    """
    peers, missing = bench.prepared(workload, names)
    fewer: dict[str, int] = {}
    subjects: list[Subject] = []
    for peer in peers:
        try:
            single = timed(peer.run)
            if budget / single < starts:
                single = timed(peer.run)  # the first start of a process may find nothing prepared
        except Exception as error:  # a peer may fail in any way: the others go on
            missing[peer.name] = why(error)
            continue
        count = max(threads, min(starts, int(budget / single)))
        if count < starts:
            fewer[peer.name] = count
        subjects.append(Subject(peer.name, _batch(peer, threads, count), peer.every))
    series = measure(subjects, rounds=rounds, warmup=1, progress=progress)
    method = f"{starts} starts of `{workload}`, {rounds} rounds in turn, 1 to warm up; time per start"
    if fewer:
        method += "; " + ", ".join(f"{name}: {count} starts" for name, count in fewer.items())
    return Comparison(f"{threads} starters at once", method, series, missing)


def _batch(peer: Peer, threads: int, count: int) -> Callable[[], float]:
    def run() -> float:
        own = peer.batch(threads, count)
        return (at_once(threads, count, peer.run) if own is None else own) / count

    return run


def at_once(threads: int, count: int, work: Callable[[], object]) -> float:
    """Does ``work`` so many times by so many threads; the seconds.  Raises the first thing that went wrong.

    When it is interrupted, the threads have ended before it raises: what they do has a beginning and an end.
    """
    left = iter(range(count))  # next() on it is atomic under the GIL
    failures: list[Exception] = []

    def worker() -> None:
        for _ in left:
            if failures:
                return
            try:
                work()
            except Exception as error:  # handed to the caller below
                failures.append(error)

    workers = [threading.Thread(target=worker) for _ in range(min(threads, count))]
    begin = time.perf_counter()
    try:
        for one in workers:
            one.start()
        for one in workers:
            one.join()
    except BaseException:
        for _ in left:
            pass
        for one in workers:
            if one.ident is not None:
                one.join()
        raise
    seconds = time.perf_counter() - begin
    if failures:
        raise failures[0]
    return seconds


def run_inside(
    bench: Bench,
    *,
    rounds: int = 20,
    spacing: float = 0.0,
    threads: int = 1,
    names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """/bin/true in a container that runs already (exec), by every engine that keeps containers.

    With several ``threads`` each runs one, all at once; the samples are seconds until the last has ended.
    """
    peers, missing = bench.prepared("sleep", names)
    with ExitStack() as stack:
        subjects = []
        for peer in peers:
            try:
                running = peer.start()
                stack.callback(running.stop)
                running.run_inside()
            except Missing as reason:
                missing[peer.name] = str(reason)
            except Exception as error:  # a peer may fail in any way: the others go on
                missing[peer.name] = why(error)
            else:
                subjects.append(Subject(peer.name, _inside(running, threads)))
        time.sleep(_SETTLE)
        series = measure(subjects, rounds=rounds, spacing=spacing, progress=progress)
    mode = f"{spacing:g} s before each" if spacing else "back to back"
    if threads > 1:
        mode = f"{threads} at once, until the last has ended"
    return Comparison(f"exec of `true`, {mode}", f"{rounds} rounds in turn, 2 to warm up", series, missing)


def _inside(running: Running, threads: int) -> Callable[[], float | None]:
    if threads == 1:
        return running.run_inside
    return lambda: at_once(threads, threads, running.run_inside)


def memory(peer: Peer, counts: Sequence[int] = (1, 10, 100)) -> list[Footprint]:
    """What an engine keeps for 0 and for each number of idle containers; Missing if it cannot leave one running."""
    peer.prepare(WORKLOADS["sleep"])
    running: list[Running] = []
    found = [Footprint(0, pss(peer.keeper_pids()), 0, 0)]
    try:
        base = kernel_bytes()
        for count in counts:
            while len(running) < count:
                running.append(peer.start())
            time.sleep(_SETTLE)
            own = [pid for one in running for pid in one.own_pids()]
            share = share_of(own)
            found.append(
                Footprint(
                    count,
                    engine=pss(set(peer.keeper_pids()) - set(own)),
                    workload=share.anonymous,
                    kernel=kernel_bytes() - base,
                    page_cache=share.files,
                    charged=cgroup_charges(own),
                    guest=sum(one.guest_bytes() for one in running),
                )
            )
    finally:
        for one in reversed(running):
            one.stop()
    return found
