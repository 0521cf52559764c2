"""SIGKILL at any moment of a program that starts containers: whoever opens the engine next removes all that it left."""

from __future__ import annotations

import io
import os
import random
import select
import signal
import subprocess
import sys
from pathlib import Path

import leaks
import pytest

import fastdock
from support import busybox_tar

pytestmark = pytest.mark.kernel

ROUNDS = 50
SEED = 20261124

# Starts and ends containers of both kinds of storage without pause, and tells when it has begun.
PROGRAM = """
import os, sys, threading
import fastdock
engine = fastdock.Engine(sys.argv[1])
def loop(storage):
    first = True
    while True:
        with engine.Popen("busybox", ["cat"], stdin=fastdock.PIPE, storage=storage, memory="64m"):
            engine.run("busybox", ["sh", "-c", "sleep 1000 & echo x > /x"], storage=storage, init=True)
        if first:
            os.write(1, b"started\\n")
            first = False
threading.Thread(target=loop, args=("disk",), daemon=True).start()
loop("memory")
"""


def processes_below(cgroups: list[Path]) -> set[int]:
    return {
        int(pid) for top in cgroups for file in top.glob("*/cgroup.procs") for pid in file.read_text().split()
    }


@pytest.mark.here  # the VM is 16 times slower; the same code runs there in test_run.py, once
@pytest.mark.timeout(900)
def test_nothing_survives_a_killed_owner(tmp_path: Path) -> None:
    """50 kills at random moments of the containers' lives."""
    chance = random.Random(SEED)
    root = tmp_path / "state"
    with fastdock.Engine(root) as engine:
        engine.images.import_tar(io.BytesIO(busybox_tar()), "busybox")
        parent, run_directory = engine.cgroup_parent, Path(engine.run_directory)
    for number in range(ROUNDS):
        program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(root)], stdout=subprocess.PIPE, text=True
        )
        assert program.stdout is not None
        assert program.stdout.readline().startswith("started"), "the program does not work"
        # The moment is what is random here, and the machine's load may make any of it.
        select.select([], [], [], chance.random() * 0.05)
        program.kill()
        assert program.wait() == -signal.SIGKILL
        program.stdout.close()
        with fastdock.Engine(root) as engine:
            assert engine.run("busybox", ["true"]).returncode == 0
        left = [
            str(path) for top in leaks.cgroup_directories(parent) for path in top.iterdir() if path.is_dir()
        ]
        assert left == [], f"round {number}"
        assert processes_below(leaks.cgroup_directories(parent)) == set()
        assert os.listdir(root / "containers") == []
        # This process's own session is there; of the killed one nothing is.
        assert len(os.listdir(run_directory / "sessions")) <= 1


def test_two_engines_do_not_take_each_other_for_dead(tmp_path: Path) -> None:
    """Opening an engine removes what the dead left, and touches nothing of the living."""
    root = tmp_path / "state"
    with fastdock.Engine(root) as engine:
        engine.images.import_tar(io.BytesIO(busybox_tar()), "busybox")
        with engine.Popen(
            "busybox", ["cat"], stdin=fastdock.PIPE, stdout=fastdock.PIPE, storage="disk"
        ) as process:
            program = "import sys, fastdock; fastdock.Engine(sys.argv[1]).run('busybox', ['true'])"
            subprocess.run([sys.executable, "-c", program, str(root)], check=True)
            assert process.poll() is None
            assert os.listdir(root / "containers") == [process.id]
            out, _ = process.communicate(b"alive")
        assert out == b"alive"


def test_a_worker_that_the_owner_forked_is_not_the_owner(tmp_path: Path) -> None:
    """It has copies of all descriptors and lives on; what the owner left is removed all the same."""
    root = tmp_path / "state"
    with fastdock.Engine(root) as engine:
        engine.images.import_tar(io.BytesIO(busybox_tar()), "busybox")
    program = (
        "import os, signal, sys, fastdock\n"
        "engine = fastdock.Engine(sys.argv[1])\n"
        "process = engine.Popen('busybox', ['sleep', '1000'], storage='disk')\n"
        "if os.fork() == 0:\n"
        "    os.read(0, 1)\n"
        "    os._exit(0)\n"
        "os.write(1, b'ready\\n')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"ready\n"
    assert owner.wait() == -signal.SIGKILL
    fastdock.Engine(root).close()
    assert os.listdir(root / "containers") == []
    owner.communicate(b"x")  # the worker ends


def test_a_root_of_its_own_leaves_no_cgroup_of_its_own(tmp_path: Path) -> None:
    """Each state directory has a cgroup for its containers; it goes with the last process that used it."""
    program = (
        "import io, sys, fastdock\n"
        "engine = fastdock.Engine(sys.argv[1])\n"
        "engine.images.import_tar(io.BytesIO(sys.stdin.buffer.read()), 'busybox')\n"
        "assert engine.run('busybox', ['true']).returncode == 0\n"
        "print(engine.cgroup_parent)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "state")],
        input=busybox_tar(),
        stdout=subprocess.PIPE,
        check=True,
    )
    parent = done.stdout.decode().strip()
    assert "/" in parent
    assert [top for top in leaks.hierarchies() if (top / parent).exists()] == []
