"""Code that runs between clone and execve shares its parent's memory: it must not allocate, lock or throw.

What it could call for that would show as an undefined symbol of its object files (nm(1)).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support import missing

BUILD = Path(os.environ.get("FASTDOCK_BUILD", Path(__file__).parents[2] / "build/release"))
OBJECTS = (
    "launch/child.cpp.o",
    "launch/child_execute.cpp.o",
    "launch/child_messages.cpp.o",
    "launch/child_namespaces.cpp.o",
    "launch/child_privileges.cpp.o",
    "launch/child_terminal.cpp.o",
    "launch/child_user.cpp.o",
    "launch/users.cpp.o",
    "rootfs/bind_inside.cpp.o",
    "rootfs/child_root.cpp.o",
    "rootfs/copy_tree.cpp.o",
    "rootfs/mount_point.cpp.o",
)
# What the compiler itself puts in: copies and comparisons of memory, the stack protector, position independence.
OF_THE_COMPILER = {
    "memcpy",
    "memset",
    "memmove",
    "memcmp",
    "strlen",
    "__stack_chk_fail",
    "_GLOBAL_OFFSET_TABLE_",
}


@pytest.fixture(scope="module")
def objects() -> list[Path]:
    found = [path for name in OBJECTS for path in sorted((BUILD / "csrc").rglob(name))]
    if len(found) != len(OBJECTS) or shutil.which("nm") is None:
        missing(f"{OBJECTS} are not all in {BUILD}, or there is no nm (tools/test builds them)")
    return found


def symbols(path: Path, *options: str) -> set[str]:
    done = subprocess.run(
        ["nm", "--format=just-symbols", *options, str(path)], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_child_can_only_make_system_calls(objects: list[Path]) -> None:
    own = {name for path in objects for name in symbols(path, "--defined-only", "--extern-only")}
    wanted = {name for path in objects for name in symbols(path, "--undefined-only")}
    assert wanted - own - OF_THE_COMPILER == set()


def test_the_child_has_no_global_state(objects: list[Path]) -> None:
    """A variable would be the parent's, and a guarded static a lock."""
    for path in objects:
        done = subprocess.run(["nm", "--defined-only", str(path)], capture_output=True, text=True, check=True)
        kinds = {line.split()[1]: line for line in done.stdout.splitlines()}
        assert not set(kinds) & set("BbDdGgSsC"), kinds
