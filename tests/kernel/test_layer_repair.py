"""Repair of stacked layers: what a lone layer cannot know of those below it."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest
from layer_files import apply, attributes, describe, entry, make_tar, overlay

from fastdock import _core
from fastdock._errors import ImageError

pytestmark = pytest.mark.kernel


def stacked(here: Path, *layers: bytes) -> dict[str, object]:
    """Unpacks layers (bottom first), repairs them, and describes what the kernel shows."""
    unpacked = []
    for number, data in enumerate(layers):
        path = here / f"layer{number}"
        unpacked.append((path, apply(data, path).repairs))
    before = {path: describe(path, root_too=True) for path, _ in unpacked}
    (here / "repair").mkdir()
    count = _core.repair_layers(unpacked, here / "repair")
    assert {path: describe(path, root_too=True) for path, _ in unpacked} == before, (
        "shared layers stay as they are"
    )
    stack = [path for path, _ in reversed(unpacked)]
    if count:
        stack.insert(0, here / "repair")
    else:
        assert os.listdir(here / "repair") == []
    (here / "none").mkdir()
    with overlay(*stack, here / "none") as merged:
        return dict(describe(merged, root_too=True))


BASE = make_tar(
    entry("tmp", tarfile.DIRTYPE, mode=0o1777, mtime=7, pax_headers={"SCHILY.xattr.user.x": "y"}),
    entry("home", tarfile.DIRTYPE, mode=0o700, uid=5, mtime=8),
    entry("home/file", data=b"base", uid=5, mode=0o4711, mtime=9.5),
    entry("home/link", tarfile.SYMTYPE, linkname="file"),
    entry("plain", tarfile.DIRTYPE, mode=0o755, mtime=10),
)


def test_unlisted_parents_keep_the_attributes_of_lower_layers(tmp_path: Path) -> None:
    shown = stacked(tmp_path, BASE, make_tar(entry("tmp/a/b", data=b"1"), entry("home/x", data=b"2")))
    assert (shown["tmp"].mode & 0o7777, shown["tmp"].mtime) == (0o1777, 7 * 10**9)
    assert shown["tmp"].attributes == {"user.x": b"y"}
    assert (shown["home"].mode & 0o7777, shown["home"].owner) == (0o700, (5, 0))
    assert shown["tmp/a"].mode & 0o7777 == 0o755
    assert shown["home/file"].content == b"base"


def test_nothing_to_repair_is_no_layer(tmp_path: Path) -> None:
    stacked(tmp_path, BASE, make_tar(entry("plain/a", data=b"1"), entry("new/b", data=b"2")))
    assert os.listdir(tmp_path / "repair") == []


def test_hard_links_into_lower_layers(tmp_path: Path) -> None:
    shown = stacked(
        tmp_path,
        BASE,
        make_tar(
            entry("copy", tarfile.LNKTYPE, linkname="home/file"),
            entry("home/again", tarfile.LNKTYPE, linkname="/home/file"),
            entry("link", tarfile.LNKTYPE, linkname="home/link"),
        ),
        make_tar(entry("third", tarfile.LNKTYPE, linkname="copy")),
    )
    for name in ("copy", "home/again", "third"):
        assert (shown[name].content, shown[name].owner, shown[name].mtime) == (b"base", (5, 0), 9_500_000_000)
        assert shown[name].mode & 0o7777 == 0o4711
        assert shown[name].names == {"copy", "home/again", "third"}
    assert shown["link"].content == "file"
    assert shown["home"].owner == (5, 0)


def test_the_link_means_the_file_of_its_time(tmp_path: Path) -> None:
    shown = stacked(
        tmp_path,
        BASE,
        make_tar(
            entry("copy", tarfile.LNKTYPE, linkname="home/file"),
            entry("gone", tarfile.LNKTYPE, linkname="home/file"),
            entry("replaced", tarfile.LNKTYPE, linkname="home/file"),
            entry("under/it", tarfile.LNKTYPE, linkname="home/file"),
        ),
        make_tar(
            entry("home/.wh.file"),
            entry(".wh.gone"),
            entry("replaced", data=b"later"),
            entry("under", data=b"a file"),
        ),
    )
    assert shown["copy"].content == b"base"
    assert shown["replaced"].content == b"later"
    assert shown["under"].content == b"a file"
    assert "home/file" not in shown
    assert "gone" not in shown


def test_whiteouts_and_replacements_end_what_is_inherited(tmp_path: Path) -> None:
    shown = stacked(
        tmp_path,
        BASE,
        make_tar(entry(".wh.tmp"), entry("home", data=b"a file")),
        make_tar(entry("tmp/new", data=b""), entry(".wh.home"), entry("home/new", data=b"")),
    )
    assert shown["tmp"].mode & 0o7777 == 0o755
    assert shown["home"].mode & 0o7777 == 0o755
    assert "home/file" not in shown


def test_an_opaque_directory_without_an_entry_keeps_its_attributes(tmp_path: Path) -> None:
    shown = stacked(tmp_path, BASE, make_tar(entry("home/.wh..wh..opq"), entry("home/new", data=b"")))
    assert (shown["home"].mode & 0o7777, shown["home"].owner) == (0o700, (5, 0))
    assert sorted(name for name in shown if name.startswith("home/")) == ["home/new"]


def test_the_root_keeps_its_attributes(tmp_path: Path) -> None:
    root = make_tar(entry("./", tarfile.DIRTYPE, mode=0o711, mtime=3), entry("a", data=b""))
    shown = stacked(tmp_path, root, make_tar(entry("b", data=b"")))
    assert shown[""].mode & 0o7777 == 0o711


def test_one_directory_serves_images_with_other_layers_below(tmp_path: Path) -> None:
    upper = make_tar(entry("d/new", data=b"n"), entry("d/link", tarfile.LNKTYPE, linkname="d/file"))
    path = tmp_path / "shared"
    repairs = apply(upper, path).repairs
    for number in range(2):
        lower = tmp_path / f"lower{number}"
        below = apply(
            make_tar(
                entry("d", tarfile.DIRTYPE, mode=0o700 + number, uid=number),
                entry("d/file", data=b"%d" % number),
            ),
            lower,
        )
        fix = tmp_path / f"fix{number}"
        fix.mkdir()
        assert _core.repair_layers([(lower, below.repairs), (path, repairs)], fix) == 2
        with overlay(fix, path, lower) as merged:
            shown = describe(merged)
        assert (shown["d"].mode & 0o7777, shown["d"].owner) == (0o700 + number, (number, 0))
        assert shown["d/link"].content == b"%d" % number


def test_a_link_to_nothing_is_an_error(tmp_path: Path) -> None:
    for number, target in enumerate(("missing", "home", "home/file/x", "link/file")):
        here = tmp_path / str(number)
        here.mkdir()
        with pytest.raises(ImageError, match="no layer has the file"):
            stacked(here, BASE, make_tar(entry("x", tarfile.LNKTYPE, linkname=target)))
    assert attributes(str(tmp_path)) == {}


def test_repair_is_the_same_however_the_layers_were_unpacked(tmp_path: Path) -> None:
    """Each layer is a function of its own bytes: order and company do not matter."""
    layers = [
        BASE,
        make_tar(entry("tmp/a", data=b"1")),
        make_tar(entry("home/b", tarfile.LNKTYPE, linkname="home/file")),
    ]
    results = []
    for order in ((0, 1, 2), (2, 1, 0)):
        here = tmp_path / "".join(map(str, order))
        here.mkdir()
        repairs = {number: apply(layers[number], here / str(number)).repairs for number in order}
        (here / "fix").mkdir()
        _core.repair_layers([(here / str(number), repairs[number]) for number in range(3)], here / "fix")
        results.append((repairs, describe(here, root_too=False)))
    assert results[0][0] == results[1][0]
    first, second = ({name: file for name, file in result[1].items() if "/" in name} for result in results)
    assert first.keys() == second.keys()
    assert all(
        first[name].content == second[name].content and first[name].mode == second[name].mode
        for name in first
    )
