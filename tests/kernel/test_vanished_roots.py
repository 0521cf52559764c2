"""A state directory that was removed leaves nothing in /run, nor cgroups."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import leaks
import pytest

from fastdock import Engine

pytestmark = pytest.mark.kernel


def test_its_run_directory_goes(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "first")
    engine.run("host", ["true"], network="none")
    places = [engine.run_directory]
    # One whose process was killed: its session is swept as well.
    script = (
        "import sys, os, fastdock; e = fastdock.Engine(sys.argv[1]); e.run('host', ['true'], network='none')"
    )
    killed = tmp_path / "killed"
    script += "; print(e.run_directory, flush=True); os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", script, killed], capture_output=True, text=True)
    places.append(done.stdout.strip())
    assert all(os.listdir(os.path.join(place, "sessions")) for place in places)
    engine.close()
    (tmp_path / "second").mkdir(
        0o700
    )  # now, or it may get the inode of one that has gone, and with it the name
    shutil.rmtree(tmp_path / "first")
    shutil.rmtree(killed)
    other = Engine(tmp_path / "second")
    assert os.path.exists(places[0])  # this process still has a session there
    assert not os.path.exists(places[1])
    assert os.readlink(os.path.join(other.run_directory, "root")) == other.root
    other.close()


def cgroups_of(engine: Engine) -> list[Path]:
    return [path for top in leaks.hierarchies() if (path := top / engine.cgroup_parent).is_dir()]


def test_its_cgroups_go_with_the_last_container(tmp_path: Path) -> None:
    """Hundreds of empty ones made every start of the machine slower by a fifth."""
    with Engine(tmp_path / "kept") as engine:
        container = engine.containers.create("host", ["sleep", "1000"], network="none")
        container.start()
        assert cgroups_of(engine)
        container.remove(force=True)
        assert cgroups_of(engine) == []


def test_its_cgroups_go_when_what_was_killed_is_repaired(tmp_path: Path) -> None:
    script = (
        "import os, sys, fastdock; e = fastdock.Engine(sys.argv[1]); "
        "p = e.Popen('host', ['sleep', '1000'], network='none'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "killed"])
    engine = Engine(tmp_path / "killed")
    assert cgroups_of(engine) == []
    engine.close()


def test_one_that_is_there_stays(tmp_path: Path) -> None:
    there = Engine(tmp_path / "there")
    Engine(tmp_path / "new").close()
    assert os.path.exists(there.run_directory)
    moved = tmp_path / "moved"
    os.rename(tmp_path / "there", moved)
    assert Engine(moved).run_directory == there.run_directory
    assert Engine(moved).run("host", ["true"], network="none").returncode == 0
