"""Makes the layer that unpacking is measured with: about 60,000 files and 929 MB of this machine's own /usr.

Usage: layer_tree.py OUTPUT.tar[.gz] [--files N] [--bytes N]
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
from pathlib import Path

LARGE = 4 << 20


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
            if status.st_size > LARGE:
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--files", type=int, default=59_600)
    parser.add_argument("--bytes", type=int, default=929_000_000)
    options = parser.parse_args()
    paths = choose("/usr", options.files, options.bytes)
    parents = {parent for path in paths for parent in map(str, Path(path).parents)}
    names = sorted(parents - {"/"}) + paths
    listing = b"\0".join(os.fsencode(name.lstrip("/")) for name in sorted(names))
    plain = options.output.with_suffix("") if options.output.suffix == ".gz" else options.output
    command = ["tar", "-C", "/", "--no-recursion", "--null", "-T", "-", "-cf", str(plain)]
    subprocess.run(command, input=listing, check=True)
    print(f"{len(paths)} files, {plain.stat().st_size} bytes", file=sys.stderr)
    if plain != options.output:
        subprocess.run(["gzip", "-f", str(plain)], check=True)
        print(f"{options.output.stat().st_size} bytes compressed", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
