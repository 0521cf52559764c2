"""Many containers at once: no error, no leak, little memory."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kept import SLEEP, START_ONE, assert_nothing_left

from fastdock import Engine, FastdockError

pytestmark = pytest.mark.kernel

_WORKER = """
import sys
from fastdock import Engine
engine = Engine(sys.argv[1])
for number in range(int(sys.argv[2])):
    made = engine.containers.create("busybox", ["sleep", "1000"])
    made.start()
    assert made.exec(["true"]).returncode == 0
    made.pause()
    made.unpause()
    assert made.name in [each.name for each in engine.containers.list()]
    assert made.stop(0) == 137
    made.remove()
"""


class TestMany:
    def test_eight_processes_at_once(self, engine: Engine) -> None:
        """Created, started, entered, paused, stopped and removed: no error, no leak."""
        total = int(os.environ.get("FASTDOCK_MANY", "100"))
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", _WORKER, engine.root, str(total // 8 + 1)], stderr=subprocess.PIPE
            )
            for _ in range(8)
        ]
        errors = [worker.communicate()[1].decode() for worker in workers]
        assert errors == [""] * 8
        assert_nothing_left(engine)

    def test_monitors_stay_small(self, engine: Engine) -> None:
        """At most 0.5 MB each, whoever started them: they share one program's pages."""
        made = []
        try:
            for number in range(4):
                script = START_ONE.format(name=f"small{number}")
                subprocess.run([sys.executable, "-c", script, engine.root], check=True)
                made.append(engine.containers.get(f"small{number}"))
            inodes, sizes = set(), []
            for each in made:
                monitor = each.state.monitor
                inodes.add(os.stat(f"/proc/{monitor}/exe").st_ino)
                rollup = Path(f"/proc/{monitor}/smaps_rollup").read_text()
                sizes.append(
                    int(next(line.split()[1] for line in rollup.splitlines() if line.startswith("Pss_Anon:")))
                )
            assert len(inodes) == 1
            assert max(sizes) < 400
        finally:
            for each in made:
                each.remove(force=True)

    def test_names_are_unique(self, engine: Engine) -> None:
        """Eight that want one name at once: one gets it, and the others leave nothing."""

        def take(_: int) -> bool:
            try:
                engine.containers.create("busybox", SLEEP, name="wanted")
            except FastdockError:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(take, range(8))) == 1
        engine.containers.get("wanted").remove()
        assert_nothing_left(engine)
