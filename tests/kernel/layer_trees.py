"""Random directory trees for hypothesis: every kind of file that a layer can hold."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

NAMES = st.sampled_from(
    [
        b"a",
        b"b",
        b"c",
        b"d",
        b"long" * 40,
        b"\xff\xfe",
        "ü ".encode(),
        b"-x",
        b"new\nline",
        b".w",
        b"wh.x",
        b"%41",
    ]
)
TIMES = st.one_of(st.integers(0, 4 * 10**18), st.integers(-(10**15), 10**15))
IDS = st.sampled_from([0, 1, 1000, 65534, 65536, 3_000_000, 2**31, 2**32 - 2])
ATTRIBUTES = st.dictionaries(
    st.sampled_from(["user.a", "user.b=c", "trusted.x", "security.y"]), st.binary(max_size=40), max_size=2
)
CONTENTS = st.one_of(
    st.binary(max_size=700),
    st.builds(
        lambda byte, count, tail: bytes([byte]) * count + tail,
        st.integers(0, 255),
        st.integers(0, 9000),
        st.binary(max_size=9),
    ),
    # Enough zeros, in enough places, to be written as holes.
    st.builds(
        lambda parts: b"".join(bytes(zeros << 16) + data for zeros, data in parts),
        st.lists(st.tuples(st.integers(0, 20), st.binary(max_size=70000 >> 4)), max_size=4),
    ),
)


@dataclass(frozen=True)
class Node:
    kind: str
    mode: int
    owner: tuple[int, int]
    mtime: int
    attributes: dict[str, bytes]
    content: object = None


def nodes(kind: str, content: st.SearchStrategy[object]) -> st.SearchStrategy[Node]:
    modes = st.sampled_from([0, 0o644, 0o755, 0o4755, 0o2711, 0o1777, 0o7777])
    owners = st.tuples(IDS, IDS)
    return st.builds(Node, st.just(kind), modes, owners, TIMES, ATTRIBUTES, content)


LEAVES = st.one_of(
    nodes("file", CONTENTS),
    nodes("link", st.sampled_from([b"x", b"/etc/passwd", b"../" * 60, b"\xff" * 200])),
    nodes("fifo", st.none()),
    nodes("char", st.tuples(st.sampled_from([1, 259, 4095]), st.sampled_from([1, 3, 300, 1 << 19]))),
    nodes("block", st.tuples(st.sampled_from([8, 259]), st.sampled_from([0, 1, 70000]))),
    nodes("hard", st.integers(0, 50)),  # a further name of an earlier file
)
TREES = nodes(
    "dir",
    st.recursive(
        st.dictionaries(NAMES, LEAVES, max_size=4),
        lambda inner: st.dictionaries(NAMES, st.one_of(LEAVES, nodes("dir", inner)), max_size=4),
        max_leaves=12,
    ),
)


def build(path: str, node: Node, files: list[str] | None = None) -> None:
    """Makes the tree at ``path``, which may exist if it is a directory."""
    files = [] if files is None else files
    content = node.content
    if node.kind == "hard":
        if not files:
            return
        os.link(files[content % len(files)], path, follow_symlinks=False)  # type: ignore[operator]
        return
    if node.kind == "dir":
        Path(path).mkdir(exist_ok=True)
        for name, child in content.items():  # type: ignore[attr-defined]
            build(f"{path}/{os.fsdecode(name)}", child, files)
    elif node.kind == "file":
        Path(path).write_bytes(content)  # type: ignore[arg-type]
    elif node.kind == "link":
        os.symlink(content, os.fsencode(path))  # type: ignore[arg-type]
    elif node.kind == "fifo":
        os.mkfifo(path)
    else:
        kind = stat.S_IFCHR if node.kind == "char" else stat.S_IFBLK
        os.mknod(path, kind, os.makedev(*content))  # type: ignore[misc]
    os.chown(path, *node.owner, follow_symlinks=False)
    if node.kind != "link":
        Path(path).chmod(node.mode)
    for name, value in node.attributes.items():
        if not name.startswith("user.") or node.kind in ("file", "dir"):
            os.setxattr(path, name, value, follow_symlinks=False)
    os.utime(path, ns=(0, node.mtime), follow_symlinks=False)
    if node.kind != "dir":
        files.append(path)
