"""`fastdock bench` that is ended while another engine starts a container leaves nothing of that engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastdock.bench.peers.leftovers import cgroups_named, mounts_below, processes_with
from tests.system.daemons import need

pytestmark = pytest.mark.system

PROGRAMS = {"crun": "crun", "runc": "runc", "podman": "podman", "lxc": "lxc-start", "docker": "dockerd"}


@contextmanager
def _bench(directory: Path, name: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [
        sys.executable,
        "-m",
        "fastdock",
        "bench",
        "start",
        "--against",
        name,
        "--directory",
        str(directory),
    ]
    bench = subprocess.Popen(
        [*command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell without job control starts what runs beside it with SIGINT ignored (POSIX, 2.11).
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        yield bench
    finally:
        if bench.returncode is None:
            bench.terminate()
            bench.communicate()


def _wait_until_it_starts_a_container(bench: subprocess.Popen[str], name: str) -> None:
    deadline = time.monotonic() + 60
    while not cgroups_named(f"fdbench-{bench.pid}-{name}-"):
        assert bench.poll() is None, bench.communicate()[0]
        assert time.monotonic() < deadline, f"no container of {name}"


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_nothing_is_left_of_an_engine(name: str, end: signal.Signals, tmp_path: Path) -> None:
    need(PROGRAMS[name])
    for place in (tmp_path, *tmp_path.parents[:2]):
        place.chmod(0o755)  # containers with ids of their own walk through it
    directory = tmp_path / "bench"
    with _bench(directory, name, "--rounds", "1000") as bench:
        _wait_until_it_starts_a_container(bench, name)
        bench.send_signal(end)
        said = bench.communicate()[0]
    assert bench.returncode in (128 + signal.SIGTERM, 1), said
    assert "Traceback" not in said
    assert processes_with(f"{directory}/") == []
    assert cgroups_named(f"fdbench-{bench.pid}-") == []
    assert mounts_below(directory) == []
    assert not (directory / name).exists()


def test_what_was_measured_before_is_saved_and_shown(tmp_path: Path) -> None:
    saved, page = tmp_path / "figures.json", tmp_path / "figures.html"
    directory = tmp_path / "bench"
    options = ("--rounds", "3", "--json", str(saved), "--html", str(page))
    with _bench(directory, "process", *options) as bench:
        while not page.exists():
            assert bench.poll() is None, bench.communicate()[0]
            os.sched_yield()
        bench.send_signal(signal.SIGTERM)
        said = bench.communicate()[0]
    assert bench.returncode == 128 + signal.SIGTERM, said
    assert "start to end of `true`, back to back" in said
    assert "interrupted" in said
    assert json.loads(saved.read_text())["comparisons"]
    assert "<svg" in page.read_text()
