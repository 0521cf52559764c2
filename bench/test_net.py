"""Containers with networks beside docker: starts, 16 at once, throughput, 500 on one network."""

from __future__ import annotations

from pathlib import Path

import pytest

from common import Measured, Replay
from fastdock.bench.network import network
from fastdock.bench.suites import Comparison

_FIGURES = ("start", "16 at once", "container to container", "published port", "500 running")


@pytest.fixture(scope="module")
def figures(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, rounds: int
) -> list[Comparison]:
    """Measured once; the tests below show them."""
    directory = Path(tmp_path_factory.mktemp("net"))
    for place in (directory, *directory.parents[:2]):
        place.chmod(0o755)  # containers with ids of their own walk through it
    against = request.config.getoption("against")
    docker = not against or bool({"docker", "container"} & set(against.split(",")))
    return list(network(directory, rounds=rounds, docker=docker))


@pytest.mark.parametrize("figure", _FIGURES)
def test_networks(figures: list[Comparison], figure: str, replay: Replay, once: Measured) -> None:
    """The samples of fastdock with a bridge; the tables at the end have the others beside it."""
    comparison = once(figure, lambda: figures[_FIGURES.index(figure)])
    replay(comparison, "the last 20" if figure == "500 running" else "fastdock bridge")
