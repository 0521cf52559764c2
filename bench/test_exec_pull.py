"""A command in a running container, and an image from a registry."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from common import Measured, Replay
from fastdock.bench.peers import Missing
from fastdock.bench.pull import commit, pull
from fastdock.bench.suites import Bench, run_inside


@pytest.mark.parametrize("spacing", [0.0, 0.5])
def test_exec(bench: Bench, once: Measured, replay: Replay, rounds: int, spacing: float, name: str) -> None:
    """/bin/true in a container that runs already."""
    replay(once(f"exec {spacing}", lambda: run_inside(bench, rounds=rounds, spacing=spacing)), name)


def test_exec_at_once(bench: Bench, once: Measured, replay: Replay, rounds: int, name: str) -> None:
    """Sixteen at once, until the last has ended."""
    replay(once("exec 16", lambda: run_inside(bench, rounds=max(3, rounds // 2), threads=16)), name)


PULLS = ["fastdock", "fastdock, ten layers", "docker", "podman", "skopeo and umoci", "tar -xz"]


@pytest.mark.parametrize("name", PULLS)
def test_pull(bench: Bench, once: Measured, replay: Replay, name: str) -> None:
    """900 MB in 60,000 files, in one layer, into an empty store; ``tar -xz`` unpacks the same file without a registry.

    Use ``--bench-dir`` on a tmpfs: otherwise the disk is measured.
    """
    with tempfile.TemporaryDirectory(prefix="fdbench-", dir="/dev/shm") as directory:
        try:
            replay(once("pull", lambda: pull(bench, Path(directory))), name)
        except Missing as reason:
            pytest.skip(str(reason))


@pytest.mark.parametrize("name", ["fastdock, 1 GB", "fastdock, small", "docker, 1 GB", "docker, small"])
def test_commit(bench: Bench, once: Measured, replay: Replay, name: str) -> None:
    """Ten changed files: it takes time for these, not for the image."""
    with tempfile.TemporaryDirectory(prefix="fdbench-", dir="/dev/shm") as directory:
        replay(once("commit", lambda: commit(bench, Path(directory))), name)
