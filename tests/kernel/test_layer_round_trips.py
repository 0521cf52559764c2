"""Properties of layers of random trees: whole trees, differences and what a container changed come back as they were."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layer_files import apply, describe, overlay, pack
from layer_trees import NAMES, TREES, Node, build

from fastdock import _core

pytestmark = pytest.mark.kernel

property_test = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory of its own for each example, on tmpfs."""
    directory = Path(tempfile.mkdtemp(prefix="fastdock-layer-", dir="/dev/shm"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


@property_test
@given(TREES, st.sampled_from(["none", "gzip", "zstd"]))
def test_a_tree_comes_back_as_it_was(tree: Node, compression: str) -> None:
    with scratch() as here:
        build(f"{here}/tree", tree)
        data = pack(_core.write_tar, here / "tree", compression=compression)
        result = apply(data, here / "out")
        assert describe(here / "out", root_too=True) == describe(here / "tree", root_too=True)
        assert result.repairs == b""
        assert pack(_core.write_tar, here / "out", compression=compression) == data


@property_test
@given(TREES, TREES)
def test_a_diff_of_two_trees_turns_one_into_the_other(before: Node, after: Node) -> None:
    with scratch() as here:
        build(f"{here}/before", before)
        build(f"{here}/after", after)
        result = apply(pack(_core.write_directory_diff, here / "before", here / "after"), here / "layer")
        assert set(result.repairs.split(b"\0")) <= {b"", b"d"}
        with overlay(here / "layer", here / "before") as merged:
            assert describe(merged) == describe(here / "after")


@property_test
@given(TREES)
def test_a_tree_does_not_differ_from_itself(tree: Node) -> None:
    with scratch() as here:
        build(f"{here}/tree", tree)
        apply(pack(_core.write_tar, here / "tree"), here / "copy")
        assert pack(_core.write_directory_diff, here / "copy", here / "tree") == bytes(1024)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["remove", "rename", "link", "chmod", "append", "replace", "replace", "clear"]),
        st.integers(0, 30),
        st.integers(0, 30),
        NAMES,
        TREES,
    ),
    max_size=8,
)


def change(root: str, steps: list[tuple[str, int, int, bytes, Node]]) -> None:
    """Does to a mounted overlay what a container might."""
    for what, first, second, name, tree in steps:
        found = [
            f"{directory}/{entry}"
            for directory, dirs, files in os.walk(root)
            for entry in sorted(dirs + files)
        ]
        directories = [root] + [path for path in found if os.path.isdir(path) and not os.path.islink(path)]
        path = found[first % len(found)] if found else root
        target = f"{directories[second % len(directories)]}/{os.fsdecode(name)}"
        try:
            if what == "remove" and path != root:
                shutil.rmtree(path) if path in directories else os.unlink(path)
            elif what == "rename" and path != root:
                os.rename(path, target)
            elif what == "link" and path not in directories:
                os.link(path, target, follow_symlinks=False)
            elif what == "chmod" and not os.path.islink(path):
                os.chmod(path, second * 7)
            elif what == "append" and os.path.isfile(path) and not os.path.islink(path):
                with open(path, "ab") as file:
                    file.write(name)
            elif what == "replace":
                if os.path.lexists(target):
                    shutil.rmtree(target) if target in directories else os.unlink(target)
                build(target, tree)
            elif what == "clear":
                directory = directories[first % len(directories)]
                mode = os.stat(directory).st_mode
                if directory != root:
                    shutil.rmtree(directory)
                    os.mkdir(directory, mode & 0o7777)
        except OSError:
            continue  # EXDEV for a directory of a lower layer, a directory into itself, and so on


@property_test
@given(TREES, STEPS)
def test_what_a_container_did_to_an_overlay_comes_back(
    lower: Node, steps: list[tuple[str, int, int, bytes, Node]]
) -> None:
    with scratch() as here:
        build(f"{here}/lower", lower)
        for name in ("upper", "work", "empty"):
            (here / name).mkdir()
        with overlay(here / "lower", upper=here / "upper", work=here / "work") as merged:
            change(merged, steps)
            expected = describe(merged)
        data = pack(_core.write_diff, here / "upper", compression="zstd")
        assert data == pack(_core.write_diff, here / "upper", compression="zstd")
        apply(data, here / "layer")
        with overlay(here / "layer", here / "lower") as merged:
            assert describe(merged) == expected
        # And the list of changes is the difference of the two trees.
        before, after = describe(here / "lower"), expected
        listed = _core.changes(here / "upper", [here / "lower"])
        deleted = {path.lstrip("/") for kind, path in listed if kind == "D"}
        gone = before.keys() - after.keys()
        assert deleted == {
            path
            for path in gone
            if not any(parent in gone or not is_dir(after, parent) for parent in parents(path))
        }
        assert {path.lstrip("/") for kind, path in listed if kind == "A"} == after.keys() - before.keys()
        for kind, path in listed:
            if kind == "C":
                assert path.lstrip("/") in before.keys() & after.keys()


def parents(path: str) -> list[str]:
    words = path.split("/")[:-1]
    return ["/".join(words[:count]) for count in range(1, len(words) + 1)]


def is_dir(files: dict[str, object], path: str) -> bool:
    return files[path].mode & 0o170000 == 0o040000  # type: ignore[attr-defined]
