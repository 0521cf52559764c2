"""The repository's pytest options: plain ``pytest`` runs the tests, ``pytest --benchmark`` the benchmarks instead."""

from __future__ import annotations

from pathlib import Path

import pytest

_BENCH = Path(__file__).parent / "bench"


def pytest_addoption(parser: pytest.Parser) -> None:
    # All of them here: bench/conftest.py is read only after the command line.
    group = parser.getgroup("fastdock benchmarks (docs/benchmarks.md)")
    group.addoption(
        "--benchmark",
        action="store_true",
        default=False,
        help="run the benchmarks of bench/ instead of the tests",
    )
    group.addoption(
        "--rounds", type=int, default=20, help="rounds of each interleaved measurement (default 20)"
    )
    group.addoption(
        "--against", default="", help="only these peers or kinds, comma-separated (floor and fastdock always)"
    )
    group.addoption(
        "--bench-dir", default="", help="where root file systems and state go (default: below /var/tmp)"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("benchmark") and config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = [str(_BENCH)]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    # Also where bench/ is named on the command line: a benchmark never runs by accident.
    if not config.getoption("benchmark") and (collection_path == _BENCH or _BENCH in collection_path.parents):
        return True
    return None
