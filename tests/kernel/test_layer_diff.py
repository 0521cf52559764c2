"""Layers that are made here: what a container changed, what differs, whole trees; and back again."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import struct
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layer_files import apply, attributes, describe, entry, is_opaque, is_whiteout, make_tar, overlay, pack
from layer_trees import NAMES, TREES, Node, build

from fastdock import _core
from fastdock._errors import ImageError, KernelError

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


# --- properties ---


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


# --- examples ---


def names_in(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getnames()


def test_the_form_of_whiteouts_and_opaque_directories(tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    (upper / "opaque").mkdir(parents=True)
    (upper / "opaque/new").touch()
    (upper / "user").mkdir()
    os.setxattr(upper / "opaque", "trusted.overlay.opaque", b"y")
    os.setxattr(upper / "user", "user.overlay.opaque", b"y")
    os.mknod(upper / "gone", 0o020000, 0)
    data = pack(_core.write_diff, upper)
    assert names_in(data) == [
        ".wh.gone",
        "opaque",
        "opaque/.wh..wh..opq",
        "opaque/new",
        "user",
        "user/.wh..wh..opq",
    ]
    apply(data, tmp_path / "out")
    assert is_whiteout(tmp_path / "out/gone")
    assert is_opaque(tmp_path / "out/user")


def acl(uid: int, gid: int) -> bytes:
    """user::rw-,user:UID:r--,group::---,group:GID:-w-,mask::rw-,other::--- (linux/posix_acl_xattr.h)."""
    entries = [
        (1, 6, 2**32 - 1),
        (2, 4, uid),
        (4, 0, 2**32 - 1),
        (8, 2, gid),
        (16, 6, 2**32 - 1),
        (32, 0, 2**32 - 1),
    ]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *item) for item in entries)


def test_owners_are_those_of_the_container(tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    upper.mkdir()
    os.chown(upper, 100000, 200000)
    (upper / "f").touch()
    os.chown(upper / "f", 101000, 200033)
    capability = bytes.fromhex("0000000300040000000000000000000000000000") + (100000).to_bytes(4, "little")
    os.setxattr(upper / "f", "security.capability", capability)
    os.setxattr(upper / "f", "system.posix_acl_access", acl(100007, 200008))
    apply(pack(_core.write_diff, upper, uid_offset=100000, gid_offset=200000), tmp_path / "out")
    found = describe(tmp_path / "out", root_too=True)
    assert found["f"].owner == (1000, 33)
    assert found[""].owner == (0, 0)
    assert found["f"].attributes["security.capability"] == bytes.fromhex(
        "0000000200040000000000000000000000000000"
    )
    assert found["f"].attributes["system.posix_acl_access"] == acl(7, 8)


def test_owners_outside_of_the_container_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(KernelError, match="too large"):
        pack(_core.write_tar, tmp_path, uid_offset=100000)


def test_overlay_private_attributes_stay_here(tmp_path: Path) -> None:
    (tmp_path / "upper").mkdir()
    (tmp_path / "upper/f").touch()
    os.setxattr(tmp_path / "upper/f", "trusted.overlay.origin", b"x")
    os.setxattr(tmp_path / "upper/f", "user.kept", b"x")
    with tarfile.open(fileobj=io.BytesIO(pack(_core.write_diff, tmp_path / "upper"))) as tar:
        assert tar.getmember("f").pax_headers.keys() & {"SCHILY.xattr.user.kept"}
        assert not any("overlay" in key for key in tar.getmember("f").pax_headers)


def test_what_is_elsewhere_in_the_overlay_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "upper/d").mkdir(parents=True)
    os.setxattr(tmp_path / "upper/d", "trusted.overlay.redirect", b"/x")
    with pytest.raises(KernelError, match="redirect_dir"):
        pack(_core.write_diff, tmp_path / "upper")


def test_a_file_whose_name_would_be_a_whiteout_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "upper").mkdir()
    (tmp_path / "upper/.wh.passwd").touch()
    with pytest.raises(ImageError, match=r"\.wh\.passwd"):
        pack(_core.write_diff, tmp_path / "upper")


def test_sockets_are_left_out(tmp_path: Path) -> None:
    import socket

    (tmp_path / "tree").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "tree/socket"))
    assert names_in(pack(_core.write_tar, tmp_path / "tree")) == ["."]


def test_names_of_one_file_stay_together_in_a_diff(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    for root in (before, after):
        root.mkdir()
        (root / "a").write_bytes(b"x")
        (root / "b").write_bytes(b"x")
        for name in ("a", "b"):
            os.utime(root / name, (0, 0))
    os.unlink(after / "b")
    os.link(after / "a", after / "b")
    apply(pack(_core.write_directory_diff, before, after), tmp_path / "layer")
    assert (tmp_path / "layer/a").stat().st_ino == (tmp_path / "layer/b").stat().st_ino


def test_a_change_that_leaves_size_and_time_is_seen(tmp_path: Path) -> None:
    for name, content in (("before", b"1"), ("after", b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_bytes(content)
        os.utime(tmp_path / name / "f", (0, 0))
        os.utime(tmp_path / name, (0, 0))
    data = pack(_core.write_directory_diff, tmp_path / "before", tmp_path / "after")
    assert names_in(data) == [".", "f"]


@pytest.mark.parametrize("reader", ["tar", "bsdtar", "python"])
def test_other_programs_read_it(tmp_path: Path, reader: str) -> None:
    tree = tmp_path / "tree"
    (tree / ("d" * 150) / ("e" * 150)).mkdir(parents=True)
    (tree / ("d" * 150) / ("e" * 150) / "file").write_bytes(b"deep")
    with (tree / "sparse").open("wb") as file:
        file.write(b"start")
        file.seek(5 << 20)
        file.write(b"middle")
        file.truncate(9 << 20)
    os.link(tree / "sparse", tree / "another")
    (tree / "link").symlink_to("y" * 300)
    os.chown(tree / "link", 3_000_000, 4_000_000, follow_symlinks=False)
    # libarchive 3.6 reads a pax time of -1.5 as -1 + 0.5.
    os.utime(tree / "sparse", ns=(0, 1_500_000_000 if reader == "bsdtar" else -1_500_000_000))
    os.setxattr(tree / "sparse", "user.x", b"\0\xff")
    data = pack(_core.write_tar, tree)
    assert len(data) < 1 << 20
    out = tmp_path / "out"
    out.mkdir()
    if reader == "python":
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            tar.extraction_filter = staticmethod(lambda entry, _: entry)  # PEP 706, where Python has it
            tar.extractall(out)
    elif reader == "tar":
        subprocess.run(["tar", "-x", "--xattrs", "-C", out], input=data, check=True)
    else:
        subprocess.run(["bsdtar", "-x", "-p", "--xattrs", "-f", "-", "-C", out], input=data, check=True)
    found, expected = describe(out), describe(tree)
    for name, file in expected.items():
        assert (found[name].content, found[name].owner, found[name].names) == (
            file.content,
            file.owner,
            file.names,
        )
        if reader != "python":
            assert found[name] == file


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_digests_of_what_is_written(tmp_path: Path, compression: str) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/f").write_bytes(os.urandom(3 << 20) + bytes(100) * 10000)
    with (tmp_path / "layer").open("w+b") as file:
        result = _core.write_tar(tmp_path / "tree", file.fileno(), compression=compression)
    data = (tmp_path / "layer").read_bytes()
    commands = {"none": ["cat"], "gzip": ["gzip", "-dc"], "zstd": ["zstd", "-dc"]}
    tar = subprocess.run(commands[compression], input=data, stdout=subprocess.PIPE, check=True).stdout
    assert (result.compressed_size, result.size) == (len(data), len(tar))
    assert result.digest == "sha256:" + hashlib.sha256(data).hexdigest()
    assert result.diff_id == "sha256:" + hashlib.sha256(tar).hexdigest()
    assert result.entries == 2


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(os.urandom(3 << 20))
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(KernelError) as caught:
        _core.write_tar(tmp_path, full.fileno(), compression="gzip")
    assert caught.value.hint == "the file system is full"


# --- repair: what a lone layer cannot know ---


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
