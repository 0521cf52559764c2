"""Unpacks one layer with fastdock and with other programs, in turns, and prints medians and ratios.

Usage: unpack.py LAYER.tar.gz [--rounds N] [--directory DIR]   (python -m fastdock.bench.layer_tree makes the layer;
DIR on tmpfs)
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

FASTDOCK = """
import os, resource, sys
from fastdock import _core
_core.apply_layer(os.open(sys.argv[1], os.O_RDONLY), sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def programs(layer: Path) -> dict[str, Callable[[Path], object]]:
    def command(*words: object) -> Callable[[Path], object]:
        return lambda out: (
            subprocess.run([*map(str, words), str(out)], stdout=subprocess.PIPE, check=True).stdout
        )

    def pipe(first: str) -> Callable[[Path], object]:
        return lambda out: subprocess.run(f"{first} {layer} | tar -x -C {out}", shell=True, check=True)

    found: dict[str, Callable[[Path], object]] = {
        "fastdock": command(sys.executable, "-c", FASTDOCK, layer),
        "tar -xz": command("tar", "-xzf", layer, "-C"),
        "bsdtar -x": command("bsdtar", "-xf", layer, "-C"),
    }
    if shutil.which("igzip"):
        found["igzip | tar -x"] = pipe("igzip -dc")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("layer", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=Path("/dev/shm"))
    options = parser.parse_args()
    times: dict[str, list[float]] = {}
    processor: dict[str, list[float]] = {}
    memory = 0
    out = options.directory / f"fastdock-unpack-{os.getpid()}"
    for _ in range(options.rounds):
        for name, run in programs(options.layer).items():
            out.mkdir()
            before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
            printed = run(out)
            times.setdefault(name, []).append(time.monotonic() - start)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
            processor.setdefault(name, []).append(used)
            if name == "fastdock" and isinstance(printed, bytes):
                memory = max(memory, int(printed))
            shutil.rmtree(out)
    own = statistics.median(times["fastdock"])
    for name, values in times.items():
        median = statistics.median(values)
        best = f"best {min(values):.2f}, processor {min(processor[name]):.2f}"
        print(f"{name:16} {median:6.2f} s  ({best})  {median / own:5.2f} x")
    print(f"peak memory of fastdock and Python: {memory / 1024:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
