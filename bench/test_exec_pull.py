"""A command in a running container, and an image from a registry."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from common import Measured, Replay
from fastdock.bench.peers import Missing
from fastdock.bench.pull import pull
from fastdock.bench.suites import Bench, run_inside


@pytest.mark.parametrize("spacing", [0.0, 0.5])
def test_exec(bench: Bench, once: Measured, replay: Replay, rounds: int, spacing: float, name: str) -> None:
    """/bin/true in a container that runs already."""
    replay(once(f"exec {spacing}", lambda: run_inside(bench, rounds=rounds, spacing=spacing)), name)


@pytest.mark.parametrize("name", ["fastdock", "docker", "podman", "tar -xz"])
def test_pull(bench: Bench, once: Measured, replay: Replay, name: str) -> None:
    """One large layer into an empty store; ``tar -xz`` unpacks the same file without a registry."""
    with tempfile.TemporaryDirectory(prefix="fdbench-", dir="/var/tmp") as directory:
        try:
            replay(once("pull", lambda: pull(bench, Path(directory))), name)
        except Missing as reason:
            pytest.skip(str(reason))
