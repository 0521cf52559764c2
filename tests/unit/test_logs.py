"""Logs that are read while the monitor rotates and compresses them."""

from __future__ import annotations

import gzip
import itertools
import os
import threading
from pathlib import Path

from fastdock.containers.logs import raw_blocks

FILES = 40


def write_and_rotate(path: Path, done: threading.Event) -> None:
    """As the monitor does it: rename from the oldest on, a new file, then the rotated one is compressed."""
    numbers = itertools.count()
    for _ in range(FILES):
        with open(path, "ab", buffering=0) as log:
            for number in itertools.islice(numbers, 20):
                log.write(b"%d\n" % number)
        for age in range(FILES, 0, -1):
            if os.path.exists(f"{path}.{age}.gz"):
                os.rename(f"{path}.{age}.gz", f"{path}.{age + 1}.gz")
        os.rename(path, f"{path}.1")
        path.touch()
        with gzip.open(f"{path}.1.gz", "wb") as packed:  # gzip(1) removes the plain file at the end
            packed.write(Path(f"{path}.1").read_bytes())
        os.unlink(f"{path}.1")
    done.set()


def test_no_line_is_missed_or_read_twice(tmp_path: Path) -> None:
    path = tmp_path / "log"
    done = threading.Event()
    writer = threading.Thread(target=write_and_rotate, args=(path, done))
    writer.start()
    longest = 0
    while not done.is_set():
        lines = [int(line) for line in b"".join(raw_blocks(str(path))).split()]
        assert lines == list(range(len(lines)))
        assert len(lines) >= longest
        longest = len(lines)
    writer.join()
    assert len(b"".join(raw_blocks(str(path))).split()) == FILES * 20
