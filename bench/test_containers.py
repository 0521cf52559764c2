"""Kept containers: what a monitor costs, and how quick the commands of every day are (docs/containers.md).

``pytest --benchmark bench/test_containers.py``; the figures are printed at the end.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common import note
from fastdock import Container, Engine, Popen
from fastdock.bench.footprint import pss
from fastdock.bench.measure import Subject, measure, quartiles, ratio
from fastdock.cli.output import parse_time

SLEEP = ["/bin/busybox", "sleep", "100000"]
TRUE = ["/bin/busybox", "true"]
OBEYS = ["/bin/busybox", "sh", "-c", "trap 'exit 0' TERM; /bin/busybox sleep 100000 & wait"]


def _busybox() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.add("/bin/busybox", "bin/busybox")
        for name in ("proc", "sys", "dev", "etc", "tmp"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
    return made.getvalue()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine of its own, with the image ``bb``."""
    base = request.config.getoption("bench_dir") or "/var/tmp"
    directory = Path(base) / f"fdbench-containers-{os.getpid()}"
    made = Engine(str(directory))
    made.images.import_tar(io.BytesIO(_busybox()), "bb")
    yield made
    for record in made.containers.records.all():
        Container.of(made.containers, record).remove(force=True, volumes=True)
    subprocess.run(["rm", "-rf", str(directory)], check=True)


@pytest.fixture(autouse=True)
def _figures_not_times(benchmark: Any) -> None:
    benchmark.disabled = True  # the figures are in extra_info and in the notes
    benchmark(lambda: None)


def _milliseconds(values: list[float]) -> str:
    low, middle, high = quartiles(values)
    return f"{middle * 1e3:.2f} ms ({low * 1e3:.2f}-{high * 1e3:.2f})"


def _command(engine: Engine, *words: str) -> list[str]:
    return [str(Path(sys.executable).parent / "fastdock"), "--root", engine.root, *words]


def test_start(engine: Engine, rounds: int, benchmark: Any) -> None:
    """To a running process: attached, in memory and on the disk; and kept (create and start; start alone)."""
    clock = time.perf_counter

    def attached(**options: Any) -> float:
        begin = clock()
        process = Popen("bb", SLEEP, engine=engine, network="none", **options)
        taken = clock() - begin
        process.kill()
        process.wait()
        return taken

    def kept() -> float:
        begin = clock()
        made = Container("bb", SLEEP, engine=engine, network="none")
        taken = clock() - begin
        made.remove(force=True)
        return taken

    def started() -> float:
        made = engine.containers.create("bb", SLEEP, network="none")
        begin = clock()
        made.start()
        taken = clock() - begin
        made.remove(force=True)
        return taken

    subjects = [
        Subject("attached", attached), Subject("attached on disk", lambda: attached(storage="disk")),
        Subject("kept", kept), Subject("start of a created one", started),
    ]  # fmt: skip
    found = measure(subjects, rounds=max(rounds, 20))
    for name, series in found.items():
        assert series.failure is None, (name, series.failure)
        times = ratio(series, found["attached"])[1]
        note(f"to a running process, {name}: {_milliseconds(series.values)}, {times:.2f} x attached")
        benchmark.extra_info[name] = series.values


def test_exec(engine: Engine, rounds: int, benchmark: Any) -> None:
    """``true`` in a running container, in the process and as a command."""
    with Container("bb", SLEEP, engine=engine, network="none") as made:
        subjects = [
            Subject("exec", lambda: _nothing(made.exec(TRUE))),
            Subject("exec with a timeout", lambda: _nothing(made.exec(TRUE, timeout=10))),
            Subject("fastdock exec", lambda: _run(_command(engine, "exec", made.id, *TRUE)), every=2),
        ]
        for name, series in measure(subjects, rounds=max(rounds, 20)).items():
            assert series.failure is None, (name, series.failure)
            note(f"{name}: {_milliseconds(series.values)}")
            benchmark.extra_info[name] = series.values


def _nothing(_: object) -> None:
    return None


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def test_stop(engine: Engine, rounds: int, benchmark: Any) -> None:
    """From the end of a program that obeys SIGTERM to the return of ``stop``."""
    lags, whole = [], []
    for _ in range(rounds):
        with Container("bb", OBEYS, engine=engine, network="none") as made:
            made.exec(TRUE)
            begin = time.time()
            made.stop()
            end = time.time()
            lags.append(end - parse_time(made.state.finished_at))
            whole.append(end - begin)
    note(f"stop: {_milliseconds(whole)}, of it after the program's end {_milliseconds(lags)}")
    benchmark.extra_info["after the end"] = lags


def test_logs(engine: Engine, benchmark: Any) -> None:
    """``fastdock logs`` of a log file of 1 GB, and how quickly it was written."""
    script = "yes 0123456789012345678901234567890123456789012345678901234567890123456789 | head -c 610000000"
    begin = time.perf_counter()
    options: dict[str, Any] = {"log_opt": {"max-size": "-1"}}
    with Container(
        "bb", ["/bin/busybox", "sh", "-c", script], engine=engine, network="none", **options
    ) as made:
        made.wait()
        written = time.perf_counter() - begin
        size = os.path.getsize(engine.containers.log_path(made.id))
        times = []
        for _ in range(3):
            begin = time.perf_counter()
            _run(_command(engine, "logs", made.id))
            times.append(time.perf_counter() - begin)
    rates = [size / taken / 1e6 for taken in times]
    note(f"logs of {size / 1e9:.2f} GB: {max(rates):.0f} MB/s; written at {size / written / 1e6:.0f} MB/s")
    benchmark.extra_info["MB/s"] = rates


def test_remove_a_hundred(engine: Engine, benchmark: Any) -> None:
    """One ``rm -f`` of 100 running containers, as a command."""
    made = [Container("bb", SLEEP, engine=engine, network="none") for _ in range(100)]
    begin = time.perf_counter()
    _run(_command(engine, "rm", "-f", *(one.id for one in made)))
    taken = time.perf_counter() - begin
    note(f"rm -f of 100 running containers: {taken:.2f} s")
    benchmark.extra_info["seconds"] = taken


def test_a_thousand(engine: Engine, benchmark: Any) -> None:
    """1,000 idle detached containers: the first starts and the last, their monitors' memory, and ``ps``."""
    made, times = [], []
    for number in range(1000):
        begin = time.perf_counter()
        made.append(Container("bb", SLEEP, engine=engine, network="none"))
        times.append(time.perf_counter() - begin)
        if number in (99, 999):
            each = pss(one.state.monitor for one in made) / len(made) / 1e6
            note(f"{number + 1} containers: a monitor has {each:.3f} MB PSS")
            benchmark.extra_info[f"PSS MB of {number + 1}"] = each
    first, last = quartiles(times[:50])[1], quartiles(times[-50:])[1]
    note(f"the first 50 of 1,000 starts: {first * 1e3:.2f} ms, the last 50: {last * 1e3:.2f} ms")
    for words in (["ps"], ["ps", "-aq"], ["ps", "-a", "--format", "json"]):
        listing = [_timed(_command(engine, *words)) for _ in range(5)]
        note(f"{' '.join(words)} with 1,000 running containers: {_milliseconds(listing)}")
        benchmark.extra_info[" ".join(words)] = listing
    begin = time.perf_counter()
    for one in made:
        one.remove(force=True)
    note(f"removing 1,000 running containers: {time.perf_counter() - begin:.1f} s")


def _timed(command: list[str]) -> float:
    begin = time.perf_counter()
    _run(command)
    return time.perf_counter() - begin
