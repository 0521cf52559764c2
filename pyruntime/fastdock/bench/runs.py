"""The suites by name, as ``fastdock bench`` runs them: each fills a Report."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from .growth import Curve, by_caller_memory, by_layers, by_running, by_starters
from .machine import describe
from .measure import why
from .network import network
from .peers import PEERS, Missing
from .pooled import until_it_runs
from .pull import commit, pull
from .report import Report
from .suites import Bench, Comparison, Progress, memory, parallel, run_inside, start
from .workload import WORKLOADS, rootfs_for

__all__ = ["README_BEGIN", "README_END", "SUITES", "chosen_names", "run", "update_readme"]

README_BEGIN, README_END = "<!-- fastdock bench: begin -->", "<!-- fastdock bench: end -->"

SUITES: Mapping[str, str] = {
    "start": "start to end of a small program: back to back, spaced by half a second, cold",
    "programs": "the start of a Python interpreter and of a web server until its first answer",
    "exec": "/bin/true in a running container: back to back, spaced, 16 at once",
    "pull": "pull and unpack of 900 MB from a registry on loopback; commit of ten files",
    "parallel": "starts per second by 1, 4 and 16 threads",
    "memory": "what engines keep in memory for 1, 10 and 100 idle containers",
    "density": "start time beside 0 to 1,000 running containers",
    "net": "starts with a bridge and a published port, 16 at once, throughput, 500 on one network",
    "growth": "start time by layers, by the caller's memory, by starters at once",
}
_CURVES = ("fastdock", "fastdock on disk", "crun", "docker")


def chosen_names(against: Sequence[str]) -> list[str] | None:
    """Names and kinds to open for ``--against``: with them fastdock itself, the floor and a bare process.

    None for all.  Raises KeyError for a word that names nothing.
    """
    if not against:
        return None
    known = {kind.name for kind in PEERS} | {kind.kind for kind in PEERS}
    for word in against:
        if word not in known:
            raise KeyError(word)
    ours = [kind.name for kind in PEERS if kind.name.startswith("fastdock")]
    return [*ours, "floor", "fork+exec", *against]


_MEMORY = "/dev/shm"
_PULL_NEEDS = 8 << 30  # bytes: all engines' stores, and the layers


def _place(suites: Sequence[str]) -> str:
    """Where to work: in memory if it is only unpacking that is measured, and there is room."""
    if (
        list(suites) == ["pull"]
        and os.path.ismount(_MEMORY)
        and shutil.disk_usage(_MEMORY).free > _PULL_NEEDS
    ):
        return _MEMORY
    return "/var/tmp"


@contextmanager
def _directory(given: Path | None, suites: Sequence[str]) -> Iterator[Path]:
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="fdbench-", dir=_place(suites)) as made:
        Path(made).chmod(0o755)  # the containers' ids walk through it
        yield Path(made)


def run(
    suites: Sequence[str],
    *,
    names: list[str] | None = None,
    rounds: int = 20,
    directory: Path | None = None,
    progress: Progress | None = None,
    save: Callable[[Report], object] | None = None,
) -> Report:
    """Runs suites by name and returns their figures.  Raises KeyError for a name that is not in SUITES.

    ``save`` gets what there is after each comparison and each curve: whoever interrupts the run loses only the one in
    progress.  Raises NoProgram if this machine has no busybox.
    """
    steps = [_STEPS[suite] for suite in suites]
    with _directory(directory, suites) as scratch, Bench(scratch, names) as bench:
        rootfs_for(WORKLOADS["true"], scratch)
        report = Report(describe(scratch), dict(bench.versions))
        for step in steps:
            # Closed at once when save raises: a suite may be inside a namespace, or have containers that run.
            with closing(step(bench, report, rounds, scratch, progress)) as pieces:
                for _ in pieces:
                    if save:
                        save(report)
    return report


# Each suite puts its comparisons and curves into the report, and yields after each.
_Pieces = Generator[None, None, None]


def _start(bench: Bench, report: Report, rounds: int, _: Path, progress: Progress | None) -> _Pieces:
    plan: list[dict[str, Any]] = [
        {"workload": "true", "rounds": rounds},
        {"workload": "hello", "rounds": max(3, rounds // 2)},
        {"workload": "true", "rounds": max(3, rounds // 2), "spacing": 0.5},
        {"workload": "true", "rounds": max(3, rounds // 4), "cold": True},
    ]
    for options in plan:
        report.comparisons.append(start(bench, **options, progress=progress))
        yield
    for spacing in (0.0, 0.5):
        report.comparisons.append(
            until_it_runs(bench, rounds=max(3, rounds // 2), spacing=spacing, progress=progress)
        )
        yield


def _programs(bench: Bench, report: Report, rounds: int, _: Path, progress: Progress | None) -> _Pieces:
    for workload in ("python", "web"):
        report.comparisons.append(start(bench, workload, rounds=max(3, rounds // 2), progress=progress))
        yield


def _exec(bench: Bench, report: Report, rounds: int, _: Path, progress: Progress | None) -> _Pieces:
    plan: list[dict[str, Any]] = [
        {"rounds": rounds},
        {"rounds": rounds, "spacing": 0.5},
        {"rounds": max(3, rounds // 2), "threads": 16},
    ]
    for options in plan:
        report.comparisons.append(run_inside(bench, **options, progress=progress))
        yield


def _pull(bench: Bench, report: Report, rounds: int, scratch: Path, progress: Progress | None) -> _Pieces:
    steps: list[tuple[str, Callable[[], Comparison]]] = [
        ("pull and unpack", lambda: pull(bench, scratch, rounds=max(3, rounds // 6), progress=progress)),
        ("commit of ten changed files", lambda: commit(bench, scratch, progress=progress)),
    ]
    for title, step in steps:
        try:
            report.comparisons.append(step())
        except Missing as reason:
            report.comparisons.append(Comparison(title, "", {}, {**bench.missing, "all": str(reason)}))
        yield


def _parallel(bench: Bench, report: Report, rounds: int, _: Path, progress: Progress | None) -> _Pieces:
    quick = [name for name, peer in bench.peers.items() if peer.kind != "vm"]
    for threads in (1, 4, 16):
        report.comparisons.append(
            parallel(bench, threads, rounds=max(3, rounds // 5), names=quick, progress=progress)
        )
        yield


def _memory(bench: Bench, report: Report, _: int, __: Path, progress: Progress | None) -> _Pieces:
    report.memory_missing.update(bench.missing)
    for number, (name, peer) in enumerate(bench.peers.items()):
        if progress:
            progress(number, len(bench.peers), name)
        try:
            report.memory[name] = memory(peer, (1, 4) if peer.kind == "vm" else (1, 10, 100))
        except Missing as reason:
            report.memory_missing[name] = str(reason)
        except Exception as error:  # a peer may fail in any way: the others go on
            report.memory_missing[name] = why(error)
        yield


def _density(bench: Bench, report: Report, _: int, __: Path, progress: Progress | None) -> _Pieces:
    report.curves.append(by_running(bench, _asked(bench), (0, 1, 10, 100, 300, 1000), progress=progress))
    yield


def _net(bench: Bench, report: Report, rounds: int, scratch: Path, progress: Progress | None) -> _Pieces:
    docker = "docker" in bench.peers or "docker" in bench.missing
    try:
        with closing(network(scratch, rounds=rounds, docker=docker, progress=progress)) as comparisons:
            for comparison in comparisons:
                report.comparisons.append(comparison)
                yield
    except Missing as reason:
        report.comparisons.append(Comparison("networks", "", {}, {"all": str(reason)}))
        yield


def _growth(bench: Bench, report: Report, rounds: int, scratch: Path, progress: Progress | None) -> _Pieces:
    names = _asked(bench)
    steps: list[tuple[str, Callable[[], Curve]]] = [
        (
            "layers",
            lambda: by_layers(bench, scratch, names, (1, 4, 16, 64, 120), rounds=max(5, rounds // 2)),
        ),
        ("memory of the caller", lambda: by_caller_memory(scratch, (10, 100, 1000, 4000, 8000), names)),
        ("starters", lambda: by_starters(bench, [*names, "floor"], (1, 2, 4, 8, 16, 32), progress=progress)),
    ]
    for number, (name, step) in enumerate(steps):
        if progress:
            progress(number, len(steps), name)
        report.curves.append(step())
        yield


def _asked(bench: Bench) -> list[str]:
    """Those of a curve that were chosen, whether they are here or not: what is missing is listed."""
    return [name for name in _CURVES if name in bench.peers or name in bench.missing]


_STEPS: Mapping[str, Callable[[Bench, Report, int, Path, Progress | None], _Pieces]] = {
    "start": _start,
    "programs": _programs,
    "exec": _exec,
    "pull": _pull,
    "parallel": _parallel,
    "memory": _memory,
    "density": _density,
    "net": _net,
    "growth": _growth,
}


def update_readme(readme: Path, report: Report, plots: Path) -> Path:
    """Puts the report's first table and plot between the two marks of a README; returns the plot's file.

    Raises ValueError if the README does not have the marks.
    """
    before, begin, rest = readme.read_text().partition(README_BEGIN)
    _, end, after = rest.partition(README_END)
    if not begin or not end:
        raise ValueError(f"{readme}: the lines {README_BEGIN} and {README_END} are missing")
    name, drawing = next(iter(report.plots().items()))
    plots.mkdir(parents=True, exist_ok=True)
    target = plots / f"{name}.svg"
    target.write_text(drawing)
    relative = target.resolve().relative_to(readme.resolve().parent)
    made = f"\n![{report.comparisons[0].title}]({relative})\n\n{report.markdown()}\n"
    readme.write_text(f"{before}{begin}{made}{end}{after}")
    return target
