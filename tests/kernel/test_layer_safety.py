"""Archives that attack: each leaves the world outside as it was and is refused by name."""

from __future__ import annotations

import gzip
import io
import os
import struct
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layer_files import apply, describe, entry, make_tar

from fastdock import _core
from fastdock._errors import ImageError

pytestmark = pytest.mark.kernel


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A directory beside the destination that must not change."""
    directory = tmp_path / "outside"
    (directory / "dir").mkdir(parents=True)
    (directory / "passwd").write_bytes(b"root")
    os.mkfifo(directory / "fifo")
    before = describe(directory, root_too=True)
    yield directory
    assert describe(directory, root_too=True) == before


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "a/../../x",
        "/../x",
        "./../x",
        "a/b/../../../x",
        "..",
        "../outside/passwd",
        "x/../../outside/dir/new",
    ],
)
def test_names_that_lead_out(tmp_path: Path, outside: Path, name: str) -> None:
    for kind in (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE):
        with pytest.raises(ImageError, match="outside of the directory"):
            apply(make_tar(entry(name, kind, linkname="x")), tmp_path / f"out{kind!r}")


def test_names_that_only_look_so(tmp_path: Path, outside: Path) -> None:
    apply(
        make_tar(
            entry("/absolute", data=b"1"),
            entry("//a/./b//c", data=b"2"),
            entry("a/b/../d", data=b"3"),
            entry("..x/...", data=b"4"),
        ),
        tmp_path / "out",
    )
    assert (tmp_path / "out/absolute").read_bytes() == b"1"
    assert (tmp_path / "out/a/b/c").read_bytes() == b"2"
    assert (tmp_path / "out/a/d").read_bytes() == b"3"
    assert (tmp_path / "out/..x/...").read_bytes() == b"4"


# Where each link leads if the archive's root is "/": what Docker does, which unpacks in a chroot.
LINKS = {
    "../outside/dir": "outside/dir",
    "/outside/dir": "outside/dir",
    "../../../../etc": "etc",
    "/": "",
    ".": "",
    "//a/./b/../c/": "a/c",
    "/..": "",
}


@pytest.mark.parametrize("target", LINKS)
def test_an_entry_below_a_link_stays_inside(tmp_path: Path, outside: Path, target: str) -> None:
    out = tmp_path / "out"
    data = make_tar(
        entry("l", tarfile.SYMTYPE, linkname=target),
        entry("l/x", data=b"mine", uid=7),
        entry("l/d", tarfile.DIRTYPE, mode=0o711),
        entry("l/sub/y", data=b"deeper"),
        entry("l/h", tarfile.LNKTYPE, linkname="l/x"),
        entry("l/.wh.passwd"),
        entry("l/o/.wh..wh..opq"),
    )
    apply(data, out)
    assert os.readlink(out / "l") == target
    place = out / LINKS[target]
    assert (place / "x").read_bytes() == b"mine"
    assert (place / "x").stat().st_uid == 7
    assert (place / "d").stat().st_mode & 0o777 == 0o711
    assert (place / "sub/y").read_bytes() == b"deeper"
    assert (place / "h").samefile(place / "x")
    assert (place / "passwd").stat().st_rdev == 0
    assert os.getxattr(place / "o", "trusted.overlay.opaque") == b"y"


def test_an_opaque_marker_below_a_link_marks_what_it_leads_to(tmp_path: Path, outside: Path) -> None:
    data = make_tar(entry("l", tarfile.SYMTYPE, linkname="../outside/dir"), entry("l/.wh..wh..opq"))
    apply(data, tmp_path / "out")
    assert os.getxattr(tmp_path / "out/outside/dir", "trusted.overlay.opaque") == b"y"


def test_chains_of_links(tmp_path: Path, outside: Path) -> None:
    """Links to links, into directories that come later, and a link that is replaced on the way."""
    out = tmp_path / "out"
    data = make_tar(
        entry("a", tarfile.SYMTYPE, linkname="b/c"),
        entry("b", tarfile.SYMTYPE, linkname="/real"),
        entry("a/1", data=b"1"),
        entry("real/c", tarfile.DIRTYPE, mode=0o700),
        entry("b", tarfile.DIRTYPE),
        entry("b/2", data=b"2"),
        entry("b/c", tarfile.SYMTYPE, linkname="../elsewhere"),
        entry("a/3", data=b"3"),
    )
    apply(data, out)
    assert (out / "real/c/1").read_bytes() == b"1"
    assert (out / "real/c").stat().st_mode & 0o777 == 0o700
    assert (out / "b/2").read_bytes() == b"2"
    assert (out / "elsewhere/3").read_bytes() == b"3"


@pytest.mark.parametrize(
    "links",
    [
        {"l": "l"},
        {"l": "m", "m": "l"},
        {"l": "./l/x"},
        {f"l{i or ''}": f"l{i + 1}" for i in range(41)},
    ],
)
def test_links_in_circles_are_refused(tmp_path: Path, outside: Path, links: dict[str, str]) -> None:
    data = make_tar(*(entry(name, tarfile.SYMTYPE, linkname=to) for name, to in links.items()), entry("l/x"))
    with pytest.raises(ImageError, match="leads in circles"):
        apply(data, tmp_path / "out")


def test_links_that_grow_are_refused(tmp_path: Path, outside: Path) -> None:
    deep = "/".join(["d"] * 200)
    links = [
        entry("l", tarfile.SYMTYPE, linkname=f"{deep}/m"),
        entry(f"{deep}/m", tarfile.SYMTYPE, linkname=deep),
    ]
    with pytest.raises(ImageError, match="depth of directories"):
        apply(make_tar(*links, entry("l/x")), tmp_path / "depth")
    long = entry("l", tarfile.SYMTYPE, linkname="x" * 256)
    with pytest.raises(ImageError, match="255 bytes"):
        apply(make_tar(long, entry("l/x")), tmp_path / "long")
    hidden = entry("l", tarfile.SYMTYPE, linkname="/.wh.d")
    with pytest.raises(ImageError):
        apply(make_tar(hidden, entry("l/x")), tmp_path / "hidden")


def test_a_file_is_no_directory(tmp_path: Path, outside: Path) -> None:
    for number, parent in enumerate(
        [entry("l", data=b"file"), entry("l", tarfile.FIFOTYPE), entry("l", tarfile.SYMTYPE, linkname="f")]
    ):
        with pytest.raises(ImageError, match="should be a directory"):
            apply(make_tar(entry("f"), parent, entry("l/x")), tmp_path / f"out{number}")


def test_writing_over_a_link_replaces_the_link(tmp_path: Path, outside: Path) -> None:
    out = tmp_path / "out"
    apply(
        make_tar(
            entry("file", tarfile.SYMTYPE, linkname="../outside/passwd"),
            entry("file", data=b"mine"),
            entry("dir", tarfile.SYMTYPE, linkname="../outside/dir"),
            entry("dir", tarfile.DIRTYPE, mode=0o777, uid=5),
            entry("dir/x", data=b""),
            entry("fifo", tarfile.SYMTYPE, linkname="../outside/fifo"),
            entry("fifo", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666, uid=9),
        ),
        out,
    )
    assert (out / "file").read_bytes() == b"mine"
    assert not (out / "dir").is_symlink()


@pytest.mark.parametrize(
    "target", ["../outside/passwd", "/../outside/passwd", "a/../../outside/passwd", ".."]
)
def test_hard_links_that_lead_out(tmp_path: Path, outside: Path, target: str) -> None:
    with pytest.raises(ImageError, match="outside of the directory"):
        apply(make_tar(entry("l", tarfile.LNKTYPE, linkname=target)), tmp_path / "out")


def test_a_hard_link_through_a_symbolic_one_reaches_nothing(tmp_path: Path, outside: Path) -> None:
    data = make_tar(
        entry("s", tarfile.SYMTYPE, linkname="../outside"), entry("h", tarfile.LNKTYPE, linkname="s/passwd")
    )
    result = apply(data, tmp_path / "out")
    assert not os.path.lexists(tmp_path / "out/h")
    (tmp_path / "repair").mkdir()
    with pytest.raises(ImageError, match="no layer has the file"):
        _core.repair_layers([(tmp_path / "out", result.repairs)], tmp_path / "repair")


def test_a_hard_link_to_a_symbolic_link_is_a_link_to_it(tmp_path: Path, outside: Path) -> None:
    data = make_tar(
        entry("s", tarfile.SYMTYPE, linkname="../outside/passwd"),
        entry("h", tarfile.LNKTYPE, linkname="s"),
        entry("h", data=b"written"),
    )
    apply(data, tmp_path / "out")
    assert (tmp_path / "out/h").read_bytes() == b"written"


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "a/.wh...", ".wh.a/b", "x/.wh.y/z"])
def test_whiteouts_of_nothing_sensible(tmp_path: Path, outside: Path, name: str) -> None:
    with pytest.raises(ImageError):
        apply(make_tar(entry("a/file", data=b""), entry(name)), tmp_path / "out")


def test_hard_links_to_directories_and_to_themselves(tmp_path: Path) -> None:
    for number, target in enumerate(("d", "self", "/")):
        with pytest.raises(ImageError):
            apply(
                make_tar(entry("d", tarfile.DIRTYPE), entry("self", tarfile.LNKTYPE, linkname=target)),
                tmp_path / str(number),
            )


def test_the_root_is_a_directory(tmp_path: Path) -> None:
    for number, kind in enumerate((tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE)):
        with pytest.raises(ImageError):
            apply(make_tar(entry("a/..", kind, linkname="x")), tmp_path / str(number))


# --- limits ---


def header(name: bytes, size: bytes, kind: bytes, **_: object) -> bytes:
    block = bytearray(
        name.ljust(100, b"\0") + b"0000644\0" * 3 + size.ljust(12, b"\0") + b"00000000000\0" + b" " * 8 + kind
    )
    block += bytes(257 - len(block)) + b"ustar\00000"
    block += bytes(512 - len(block))
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def test_bombs_stop(tmp_path: Path) -> None:
    huge = header(b"f", b"77777777777", b"0")
    stream = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = (
        stream.compress(huge) + b"".join(stream.compress(bytes(1 << 20)) for _ in range(200)) + stream.flush()
    )
    assert len(bomb) < 300_000
    with pytest.raises(ImageError, match="max_size"):
        apply(bomb, tmp_path / "gzip", max_size=100 << 20)
    written = sum(path.lstat().st_size for path in (tmp_path / "gzip").rglob("*"))
    assert written <= 101 << 20


def test_sparse_bombs_stop(tmp_path: Path) -> None:
    headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "f",
        "GNU.sparse.realsize": str(1 << 60),
    }
    data = make_tar(entry("x", data=b"0\n".ljust(512, b"\0"), pax_headers=headers))
    with pytest.raises(ImageError, match="max_size"):
        apply(data, tmp_path / "one")
    headers["GNU.sparse.realsize"] = str(60 << 20)
    many = make_tar(
        *(
            entry(f"x{i}", data=b"0\n".ljust(512, b"\0"), pax_headers=headers | {"GNU.sparse.name": f"f{i}"})
            for i in range(3)
        )
    )
    with pytest.raises(ImageError, match="max_size"):
        apply(many, tmp_path / "many", max_size=100 << 20)


def test_entries_are_counted(tmp_path: Path) -> None:
    data = make_tar(*(entry(f"f{i}") for i in range(101)))
    apply(data, tmp_path / "fine", max_entries=101)
    with pytest.raises(ImageError, match="max_entries"):
        apply(data, tmp_path / "many", max_entries=100)
    # Directories that no entry lists cost as much as those that one does.
    deep = make_tar(*(entry("/".join(f"{i}.{j}" for j in range(20))) for i in range(10)))
    with pytest.raises(ImageError, match="max_entries"):
        apply(deep, tmp_path / "deep", max_entries=100)


def test_extended_headers_without_end_are_counted(tmp_path: Path) -> None:
    data = (header(b"g", b"00000000014", b"g") + b"12 comment=\n".ljust(512, b"\0")) * 1000
    with pytest.raises(ImageError, match="max_entries"):
        apply(data, tmp_path / "out", max_entries=100)


def test_names_values_and_depths_are_limited(tmp_path: Path) -> None:
    cases: list[tuple[bytes, str]] = [
        (make_tar(entry("n/" * 3000)), "max_name"),
        (make_tar(entry("n/" * 300)), "depth"),
        (make_tar(entry("n" * 256)), "255 bytes"),
        (make_tar(entry("f", pax_headers={"SCHILY.xattr.user.x": "v" * 70000})), "max_xattr"),
        (make_tar(entry("f", pax_headers={"path": "x" * (2 << 20)})), "extended header"),
        (make_tar(entry("f", pax_headers={f"SCHILY.xattr.user.{i}": "v" for i in range(300)})), "attributes"),
        (make_tar(entry("n" * 5000), form=tarfile.GNU_FORMAT), "extended header"),
        (make_tar(entry("f", pax_headers={f"vendor.{i}": "v" for i in range(2000)})), "number of keys"),
    ]
    for number, (data, what) in enumerate(cases):
        with pytest.raises(ImageError, match=what):
            apply(data, tmp_path / str(number))


def test_a_deep_tree_can_be_removed_again(tmp_path: Path) -> None:
    apply(make_tar(entry("d/" * 255 + "f", data=b"x"), entry("d", data=b"a file now")), tmp_path / "out")
    assert (tmp_path / "out/d").read_bytes() == b"a file now"


@pytest.mark.parametrize(
    "value", ["-1", "4294967295", "4294967296", "1e3", "0x10", " 1", "18446744073709551616"]
)
def test_owners_that_are_no_ids(tmp_path: Path, value: str) -> None:
    for key in ("uid", "gid"):
        with pytest.raises(ImageError):
            apply(make_tar(entry("f", pax_headers={key: value})), tmp_path / key)


# --- damage ---


@pytest.mark.parametrize("compress", ["gzip", "zstd", "cat"])
def test_truncated_anywhere(tmp_path: Path, compress: str) -> None:
    tar = make_tar(entry("a" * 150, data=b"x" * 1500, mtime=1.5), entry("b", data=os.urandom(700)))
    data = subprocess.run(
        [compress, "-c"] if compress != "cat" else ["cat"], input=tar, stdout=subprocess.PIPE, check=True
    ).stdout
    for size in range(1, len(data), 97):
        # A tar may lack its end: Docker takes that too, so a cut between two entries cannot be told.
        if compress == "cat" and size % 512 == 0:
            continue
        if compress == "cat" and size > len(data) - 10000:
            break
        with pytest.raises(ImageError):
            apply(data[:size], tmp_path / str(size))


def test_flipped_bits_in_a_gzip_are_found(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(make_tar(entry("f", data=os.urandom(5000)))))
    for at in range(12, len(data), 301):
        changed = bytes(data[:at]) + bytes([data[at] ^ 16]) + bytes(data[at + 1 :])
        with pytest.raises(ImageError):
            apply(changed, tmp_path / str(at))


def test_garbage_is_refused(tmp_path: Path) -> None:
    tar = make_tar(entry("f", data=b"x"))
    cases = [
        b"this is no archive at all" * 100,
        b"\x1f\x8b" + b"\0" * 600,
        b"\x28\xb5\x2f\xfd" + b"\xff" * 600,
        gzip.compress(tar) + b"trailing",
        bytes(512) + tar,
        tar[:512].replace(b"0000644", b"0000645") + tar[512:],
        header(b"f", b"0", b"?"),
        header(b"x", b"00000000012", b"x") + b"999 path=aa\n".ljust(512, b"\0") + tar,
        header(b"x", b"00000000012", b"x") + b"12 path=a\0b\n".ljust(512, b"\0") + tar,
        header(b"x", b"00000000012", b"x") + b"12 path=abc\n".ljust(512, b"\0"),
        header(b"f", b"-0000000001\0", b"0"),
        header(b"f", struct.pack(">I", 0xFFFFFFFF) + b"\xff" * 8, b"0"),
        header(b"f", b"8", b"0"),
    ]
    for number, data in enumerate(cases):
        with pytest.raises(ImageError):
            apply(data, tmp_path / str(number))


def test_bad_sparse_maps(tmp_path: Path) -> None:
    base = {"GNU.sparse.name": "f", "GNU.sparse.realsize": "1000", "GNU.sparse.size": "1000"}
    for number, text in enumerate(
        ["0,2000", "500,4,0,4", "0,4,2,4", "0", "a,b", "0,3", "999,2,0,2", "18446744073709551615,8"]
    ):
        data = make_tar(
            entry("x", data=b"12345678"[: 8 if number else 2000], pax_headers=base | {"GNU.sparse.map": text})
        )
        with pytest.raises(ImageError):
            apply(data, tmp_path / str(number))
    for number, text in enumerate(
        [b"", b"1\n", b"1\n0\n9999999999\n", b"99999999999999999999\n", b"x\n", b"1" * 600, b"-1\n"]
    ):
        body = text.ljust(-(-max(len(text), 1) // 512) * 512, b"\0")
        info = base | {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
        with pytest.raises(ImageError):
            apply(make_tar(entry("x", data=body, pax_headers=info)), tmp_path / f"v1-{number}")


def test_of_two_errors_the_earlier_one_wins(tmp_path: Path) -> None:
    tar = make_tar(
        entry("ok", data=os.urandom(2 << 20)), entry("../x"), entry("more", data=os.urandom(4 << 20))
    )
    data = gzip.compress(tar)[:-1000]  # the end is missing, but "../x" comes before that
    for number in range(20):
        with pytest.raises(ImageError, match="outside of the directory"):
            apply(data, tmp_path / str(number), piece=300_000)


def test_memory_stays_bounded(tmp_path: Path) -> None:
    """A layer of 600 MB, in a process of its own whose address space would not hold it."""
    program = """
import io, os, resource, sys, tarfile, zlib
from fastdock import _core
stream = zlib.compressobj(1, zlib.DEFLATED, 31)
info = tarfile.TarInfo("zeros"); info.size = 600 << 20
writer = _core.LayerWriter(sys.argv[1])
resource.setrlimit(resource.RLIMIT_DATA, (120 << 20, 120 << 20))
writer.write(stream.compress(info.tobuf()))
for _ in range(600): writer.write(stream.compress(bytes(1 << 20)))
writer.write(stream.compress(bytes(1024)) + stream.flush())
assert writer.finish().size == (600 << 20) + 1536
"""
    (tmp_path / "out").mkdir()
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "out")], check=True)
    assert (tmp_path / "out/zeros").stat().st_size == 600 << 20


def test_a_tar_of_pipes_only_is_read_to_its_end(tmp_path: Path) -> None:
    data = io.BytesIO(make_tar(*(entry(f"p{i}", tarfile.FIFOTYPE) for i in range(50))))
    apply(data.getvalue(), tmp_path / "out")
    assert len(os.listdir(tmp_path / "out")) == 50


WORDS = st.sampled_from(["a", "b", "c", "l", "m"])
PATHS = st.lists(WORDS, min_size=1, max_size=4).map("/".join)
TARGETS = st.lists(st.sampled_from(["a", "b", "l", "m", "..", ".", ""]), min_size=1, max_size=5).map("/".join)
KINDS = st.sampled_from(
    [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]
)


@given(
    st.lists(
        st.tuples(PATHS, KINDS, TARGETS.filter(bool) | st.just("../../outside/dir"), st.booleans()),
        max_size=14,
    )
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_mixture_of_links_leads_out(
    tmp_path: Path, outside: Path, entries: list[tuple[str, bytes, str, bool]]
) -> None:
    """Whatever is made in whatever order: what is beside the destination stays as it is."""
    before = describe(outside, root_too=True)
    parts = []
    for path, kind, target, hide in entries:
        above, _, name = path.rpartition("/")
        name = f"{above}/.wh.{name}" if hide else path
        parts.append(entry(name, kind, linkname=target, data=b"x" if kind == tarfile.REGTYPE else b""))
    with tempfile.TemporaryDirectory(dir=tmp_path) as parent:
        try:
            apply(make_tar(*parts), Path(parent) / "out")
        except ImageError:
            pass
        assert os.listdir(parent) == ["out"]
    assert describe(outside, root_too=True) == before
    assert os.listdir(tmp_path) == ["outside"]
