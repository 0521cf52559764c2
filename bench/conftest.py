"""What the benchmarks share: open peers, and the way from interleaved samples into pytest-benchmark's tables and files.

pytest-benchmark measures one test after the other; we measure in turn (A B C A B C).  So a module measures first, and
each test replays the samples of one peer into its ``benchmark`` fixture through a clock that only the replay moves.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from common import CLOCK, NOTES, PEER_NAMES, Measured, note
from fastdock.bench.machine import describe
from fastdock.bench.measure import Series, ratio
from fastdock.bench.peers import PEERS
from fastdock.bench.suites import Bench, Comparison
from fastdock.bench.tables import text


def pytest_configure(config: pytest.Config) -> None:
    known = {word for kind in PEERS for word in (kind.name, kind.kind)}
    for word in filter(None, config.getoption("against").split(",")):
        if word not in known:
            raise pytest.UsageError(f"--against: there is no peer or kind named {word!r}")
    if config.getoption("rounds") < 3:
        raise pytest.UsageError("--rounds: 3 at least")


@pytest.fixture(scope="session", autouse=True)
def _ended_in_order() -> None:
    """Ended by timeout(1) we still stop what we started, and show what was measured until then, as after Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("SIGTERM"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.timeout(0))  # figures take the time they take
        item.add_marker(pytest.mark.benchmark(timer=CLOCK))


def _chosen(config: pytest.Config) -> list[str] | None:
    """Names and kinds to measure; None: all.  The floor and fastdock itself always take part."""
    against = config.getoption("against")
    ours = [name for name in PEER_NAMES if name.startswith("fastdock")]
    return [*filter(None, against.split(",")), "floor", *ours] if against else None


def _named(metafunc: pytest.Metafunc) -> bool:
    """Whether the test says itself which names it has."""
    return any(
        "name" in str(mark.args[0]).split(",") for mark in metafunc.definition.iter_markers("parametrize")
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with a ``name`` is one per chosen peer."""
    if "name" in metafunc.fixturenames and not _named(metafunc):
        chosen = _chosen(metafunc.config)
        names = [kind.name for kind in PEERS if chosen is None or kind.name in chosen or kind.kind in chosen]
        metafunc.parametrize("name", names)


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """All peers that this machine has, opened once."""
    names = _chosen(request.config)
    with tempfile.TemporaryDirectory(prefix="fdbench-", dir="/var/tmp") as scratch:
        directory = Path(request.config.getoption("bench_dir") or scratch)
        directory.chmod(0o755) if directory.exists() else None
        with Bench(directory, names) as opened:
            described = describe(directory)
            note("machine: " + ", ".join(f"{key} {value}" for key, value in described.items()))
            note("versions: " + "; ".join(f"{key}: {value}" for key, value in opened.versions.items()))
            yield opened


@pytest.fixture(scope="session")
def rounds(request: pytest.FixtureRequest) -> int:
    """How many rounds a measurement has."""
    return int(request.config.getoption("rounds"))


@pytest.fixture(scope="session")
def once() -> Measured:
    """Measures a comparison once per session, however many tests look at it, and keeps its table for the end."""
    done: dict[str, Comparison] = {}

    def measured(key: str, take: Callable[[], Comparison]) -> Comparison:
        if key not in done:
            done[key] = take()
            note(text(done[key]))
        return done[key]

    return measured


@pytest.fixture
def replay(benchmark: Any) -> Callable[[Comparison, str], Series]:
    """Puts one peer's samples into pytest-benchmark, with its ratios; skips with the reason if it was not measured."""

    def into(comparison: Comparison, name: str) -> Series:
        reason = comparison.not_measured().get(name)
        series = comparison.series.get(name)
        if reason is not None or series is None:
            benchmark.disabled = True
            benchmark(lambda: None)
            pytest.skip(f"{name}: {reason or 'it takes no part in this measurement'}")
        samples = iter(series.values)
        benchmark.group = comparison.title
        benchmark.name = name
        for base in ("floor", "fork+exec", "fastdock"):
            if base in comparison.measured():
                low, middle, high = ratio(series, comparison.series[base])
                benchmark.extra_info[f"ratio to {base}"] = {"median": middle, "quartiles": [low, high]}
        benchmark.extra_info["method"] = comparison.method
        benchmark.pedantic(lambda: CLOCK.advance(next(samples)), rounds=len(series.samples), iterations=1)
        return series

    return into


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for words in NOTES:
        terminalreporter.write_line("")
        terminalreporter.write_line(words)
