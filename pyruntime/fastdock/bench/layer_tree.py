"""Layers to measure unpacking with: about 60,000 files and 900 MB of this machine's own /usr.

``python -m fastdock.bench.layer_tree OUTPUT.tar.gz`` writes one.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["FILES", "SIZE", "choose", "write_layer"]

FILES, SIZE = 59_600, 929_000_000
_LARGE = 4 << 20


def choose(root: str, count: int, total: int) -> list[str]:
    """Paths of regular files, whole directories at a time, then large ones until the size is right."""
    small: dict[str, list[tuple[str, int]]] = {}
    large: list[tuple[str, int]] = []
    for directory, names, files in os.walk(root):
        names.sort()
        for name in sorted(files):
            path = f"{directory}/{name}"
            status = os.lstat(path)
            if not os.path.isfile(path) or os.path.islink(path):
                continue
            if status.st_size > _LARGE:
                large.append((path, status.st_size))
            else:
                small.setdefault(directory, []).append((path, status.st_size))
    dice = random.Random(3)
    order = sorted(small)
    dice.shuffle(order)
    chosen: list[str] = []
    size = 0
    for directory in order:
        for path, length in small[directory]:
            if len(chosen) < count and size + length < total * 0.9:
                chosen.append(path)
                size += length
    dice.shuffle(large)
    for path, length in large:
        if size + length < total:
            chosen.append(path)
            size += length
    return sorted(chosen)


def write_layer(paths: Sequence[str], output: Path) -> None:
    """Writes files and their parent directories to a tar; compresses it if its name ends in .gz."""
    parents = {parent for path in paths for parent in map(str, Path(path).parents)} - {"/"}
    listing = b"\0".join(os.fsencode(name.lstrip("/")) for name in sorted({*parents, *paths}))
    packed = output.suffix == ".gz"
    plain = output.with_suffix("") if packed else output
    command = ["tar", "-C", "/", "--no-recursion", "--null", "-T", "-", "-cf", str(plain)]
    subprocess.run(command, input=listing, check=True)
    if packed:
        subprocess.run(["gzip", "-fk", str(plain)], check=True)


def main() -> int:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    output = Path(sys.argv[1])
    paths = choose("/usr", FILES, SIZE)
    write_layer(paths, output)
    print(f"{len(paths)} files, {output.stat().st_size} bytes", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
