"""Unpacking: every kind of entry and every dialect of tar, against what other programs write and read."""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import struct
import subprocess
import tarfile
import threading
import time
from pathlib import Path

import pytest
from layer_files import apply, attributes, describe, entry, is_opaque, is_whiteout, make_tar

from fastdock import _core
from fastdock._errors import ImageError, KernelError

pytestmark = pytest.mark.kernel

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")  # cap_net_bind_service=ep


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """One file of every kind."""
    root = tmp_path / "tree"
    (root / "dir/sub").mkdir(parents=True)
    (root / "dir/file").write_bytes(b"content\n" * 1000)
    (root / "dir/empty").write_bytes(b"")
    (root / "dir/link").symlink_to("/absolute/target")
    (root / "dir/long link").symlink_to("x/" * 150 + "end")
    os.link(root / "dir/file", root / "other name")
    os.mkfifo(root / "fifo", 0o640)
    os.mknod(root / "char", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(root / "block", stat.S_IFBLK | 0o660, os.makedev(259, 70000))
    deep = root / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    (deep / ("f" * 120)).write_bytes(b"deep")
    (root / "owned").write_bytes(b"x")
    os.chown(root / "owned", 70000, 100000)
    (root / "setuid").write_bytes(b"x")
    os.chown(root / "setuid", 5, 6)
    (root / "setuid").chmod(0o6755)
    (root / "sticky").mkdir()
    (root / "sticky").chmod(0o1777)
    (root / "unreadable").mkdir(mode=0)
    (root / "unreadable/inside").write_bytes(b"x")
    for path in sorted(root.rglob("*"), reverse=True):
        os.utime(path, ns=(0, 1_700_000_000_123_456_789), follow_symlinks=False)
    return root


def run(*command: object, data: bytes | None = None, cwd: Path | None = None) -> bytes:
    return subprocess.run(
        [str(word) for word in command], input=data, cwd=cwd, stdout=subprocess.PIPE, check=True
    ).stdout


def whole_seconds(files: dict[str, object]) -> dict[str, object]:
    return {
        name: (file.mode, file.owner, file.mtime // 10**9, file.content, file.names)
        for name, file in files.items()
    }  # type: ignore[attr-defined]


@pytest.mark.parametrize("form", ["posix", "gnu", "oldgnu"])
def test_gnu_tar(tree: Path, tmp_path: Path, form: str) -> None:
    data = run("tar", f"--format={form}", "-C", tree, "-c", ".")
    apply(data, tmp_path / "out")
    if form == "posix":
        assert describe(tmp_path / "out") == describe(tree)
    assert whole_seconds(describe(tmp_path / "out")) == whole_seconds(describe(tree))


@pytest.mark.parametrize("form", ["v7", "ustar"])
def test_old_formats(tmp_path: Path, form: str) -> None:
    root = tmp_path / "tree"
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/file").write_bytes(b"x" * 600)
    (root / "a/link").symlink_to("b/file")
    os.link(root / "a/b/file", root / "hard")
    long = root / ("p" * 90) / ("q" * 90)
    if form == "ustar":
        long.mkdir(parents=True)
        (long / "name").write_bytes(b"split")
        os.mkfifo(root / "fifo")
    apply(run("tar", f"--format={form}", "-C", root, "-c", "."), tmp_path / "out")
    assert whole_seconds(describe(tmp_path / "out")) == whole_seconds(describe(root))


@pytest.mark.parametrize("form", ["pax", "gnutar"])
def test_bsdtar(tree: Path, tmp_path: Path, form: str) -> None:
    for name in ("dir", "dir/file"):
        os.setxattr(tree / name, "user.text", b"with\0nul and \xff")
    data = run("bsdtar", "--format", form, "--xattrs", "-C", tree, "-c", "-f", "-", ".")
    apply(data, tmp_path / "out")
    assert whole_seconds(describe(tmp_path / "out")) == whole_seconds(describe(tree))
    if form == "pax":
        assert describe(tmp_path / "out") == describe(tree)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_python_tarfile(tmp_path: Path, form: int) -> None:
    data = make_tar(
        entry("a/", tarfile.DIRTYPE, mode=0o750),
        entry("a/file", data=b"1234", uid=1, gid=2, mtime=1000),
        entry("a/hard", tarfile.LNKTYPE, linkname="a/file"),
        entry("a/soft", tarfile.SYMTYPE, linkname="../x", uid=7),
        entry("null", tarfile.CHRTYPE, devmajor=1, devminor=3),
        entry("pipe", tarfile.FIFOTYPE),
        form=form,
    )
    out = tmp_path / "out"
    result = apply(data, out)
    assert result.entries == 6
    assert (out / "a/file").read_bytes() == b"1234"
    assert (out / "a/file").stat().st_ino == (out / "a/hard").stat().st_ino
    assert os.lstat(out / "a/soft").st_uid == 7
    assert os.lstat(out / "null").st_rdev == os.makedev(1, 3)


@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0", "old"])
def test_sparse_files(tmp_path: Path, version: str) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    with (root / "sparse").open("wb") as file:
        for offset in range(0, 60 << 20, 1 << 20):  # enough parts for extension blocks and a long map
            file.seek(offset)
            file.write(b"data%d" % offset * 1000)
        file.truncate(100 << 20)
    with (root / "hole").open("wb") as file:
        file.truncate(3 << 30)
    (root / "after").write_bytes(b"still in step")
    options = ["--format=oldgnu"] if version == "old" else ["--format=posix", f"--sparse-version={version}"]
    data = run("tar", "--sparse", *options, "-C", root, "-c", "sparse", "hole", "after")
    assert len(data) < 10 << 20
    apply(data, tmp_path / "out")
    assert (tmp_path / "out/sparse").read_bytes() == (root / "sparse").read_bytes()
    assert (tmp_path / "out/hole").stat().st_size == 3 << 30
    assert (tmp_path / "out/hole").stat().st_blocks == 0
    assert (tmp_path / "out/after").read_bytes() == b"still in step"


def test_large_numbers_in_base_256(tmp_path: Path) -> None:
    data = make_tar(
        entry("f", data=b"x", uid=3_000_000_000, gid=2**31 + 5, mtime=-77), form=tarfile.GNU_FORMAT
    )
    apply(data, tmp_path / "out")
    status = (tmp_path / "out/f").stat()
    assert (status.st_uid, status.st_gid, status.st_mtime) == (3_000_000_000, 2**31 + 5, -77)


def test_pax_records_win_over_fields_and_global_ones_apply_until_replaced(tmp_path: Path) -> None:
    data = make_tar(
        entry("one", data=b"1"),
        entry("two", data=b"2", pax_headers={"uid": "44", "mtime": "5.000000007"}),
        pax_headers={"gid": "99", "uid": "33", "mtime": "-1.5"},
    )
    apply(data, tmp_path / "out")
    one, two = (tmp_path / "out/one").stat(), (tmp_path / "out/two").stat()
    assert (one.st_uid, one.st_gid, one.st_mtime_ns) == (33, 99, -1_500_000_000)
    assert (two.st_uid, two.st_gid, two.st_mtime_ns) == (44, 99, 5_000_000_007)


def test_extended_attributes(tmp_path: Path) -> None:
    headers = {
        "SCHILY.xattr.user.plain": "value",
        "LIBARCHIVE.xattr.user.na%3dme": "AAH/",
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.trusted.overlay.redirect": "/etc",
        "SCHILY.xattr.user.overlay.metacopy": "",
    }
    info, data = entry("ping", data=b"x", uid=1000, mode=0o755, pax_headers=headers)
    raw = make_tar((info, data), entry("dir", tarfile.DIRTYPE, pax_headers=headers))
    apply(raw, tmp_path / "out")
    for name in ("ping", "dir"):
        assert attributes(f"{tmp_path}/out/{name}") == {"user.plain": b"value", "user.na=me": b"\0\1\xff"}


def test_capabilities_survive_the_change_of_owner(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "ping").write_bytes(b"x")
    os.chown(root / "ping", 1000, 1000)
    os.setxattr(root / "ping", "security.capability", CAPABILITY)
    apply(run("tar", "--xattrs", "--xattrs-include=*", "-C", root, "-c", "ping"), tmp_path / "out")
    assert attributes(f"{tmp_path}/out/ping")["security.capability"] == CAPABILITY
    assert (tmp_path / "out/ping").stat().st_uid == 1000


def test_attributes_that_the_kind_of_file_does_not_take_are_counted(tmp_path: Path) -> None:
    data = make_tar(entry("link", tarfile.SYMTYPE, linkname="x", pax_headers={"SCHILY.xattr.user.a": "b"}))
    assert apply(data, tmp_path / "out").skipped_attributes == 1


def test_directories_listed_after_their_children(tmp_path: Path) -> None:
    data = make_tar(
        entry("d/e/file", data=b"x"),
        entry("d/e", tarfile.DIRTYPE, mode=0o500, mtime=111, uid=5),
        entry("d", tarfile.DIRTYPE, mode=0o2555, mtime=222.5, gid=6),
    )
    result = apply(data, tmp_path / "out")
    found = describe(tmp_path / "out")
    assert (found["d/e"].mode & 0o7777, found["d/e"].mtime, found["d/e"].owner) == (
        0o500,
        111 * 10**9,
        (5, 0),
    )
    assert (found["d"].mode & 0o7777, found["d"].mtime, found["d"].owner) == (0o2555, 222_500_000_000, (0, 6))
    assert found["d/e/file"].owner == (0, 0)
    assert result.repairs == b"d\0"  # nothing but the root is left to lower layers


def test_missing_parents_get_defaults_that_do_not_depend_on_time(tmp_path: Path) -> None:
    result = apply(make_tar(entry("a/b/c", data=b"x")), tmp_path / "out")
    found = describe(tmp_path / "out", root_too=True)
    for name in ("", "a", "a/b"):
        assert (found[name].mode & 0o7777, found[name].owner, found[name].mtime) == (0o755, (0, 0), 0)
    assert result.repairs == b"d\0da\0da/b\0"


def test_the_root_has_an_entry(tmp_path: Path) -> None:
    result = apply(make_tar(entry("./", tarfile.DIRTYPE, mode=0o711, uid=3)), tmp_path / "out")
    assert (tmp_path / "out").stat().st_mode & 0o7777 == 0o711
    assert (tmp_path / "out").stat().st_uid == 3
    assert result.repairs == b""


def test_later_entries_replace_earlier_ones(tmp_path: Path) -> None:
    out = tmp_path / "out"
    apply(
        make_tar(
            entry("file", data=b"old, longer"),
            entry("hard", tarfile.LNKTYPE, linkname="file"),
            entry("file", data=b"new"),
            entry("a", data=b"file first"),
            entry("a", tarfile.DIRTYPE),
            entry("a/inside", data=b"1"),
            entry("b/deep/er", data=b"directory first"),
            entry("b", data=b"then a file"),
            entry("c/x", data=b""),
            entry("c", tarfile.SYMTYPE, linkname="/etc"),
            entry("c", tarfile.DIRTYPE),
            entry("c/y", data=b"in the directory"),
            entry("same", tarfile.DIRTYPE, mode=0o700),
            entry("same/kept", data=b""),
            entry("same", tarfile.DIRTYPE, mode=0o711),
        ),
        out,
    )
    assert (out / "file").read_bytes() == b"new"
    assert (out / "hard").read_bytes() == b"old, longer"
    assert (out / "a/inside").read_bytes() == b"1"
    assert (out / "b").read_bytes() == b"then a file"
    assert sorted(os.listdir(out / "c")) == ["y"]
    assert sorted(os.listdir(out / "same")) == ["kept"]
    assert (out / "same").stat().st_mode & 0o777 == 0o711
    assert is_opaque(out / "a")
    assert is_opaque(out / "c")


def test_whiteouts_and_opaque_directories(tmp_path: Path) -> None:
    out = tmp_path / "out"
    apply(
        make_tar(
            entry(".wh.gone"),
            entry("d/child", data=b""),
            entry("d/.wh..wh..opq"),
            entry("first", tarfile.DIRTYPE),
            entry(".wh.first"),
            entry(".wh.second"),
            entry("second/file", data=b""),
            entry("stays", data=b"1"),
            entry(".wh.stays"),
            entry(".wh.returns"),
            entry("returns", data=b"2"),
            entry("device", tarfile.CHRTYPE, devmajor=0, devminor=0, mode=0o666),
            entry(".wh..wh.plnk/1.2", data=b"aufs"),
            entry(".wh..wh.aufs", data=b"aufs"),
        ),
        out,
    )
    assert sorted(os.listdir(out)) == ["d", "device", "first", "gone", "returns", "second", "stays"]
    assert is_whiteout(out / "gone")
    assert is_whiteout(out / "device")
    assert is_opaque(out / "d")
    assert not is_opaque(out)
    # Hidden below and made anew, in either order: nothing of the lower directory may show.
    assert is_opaque(out / "first")
    assert is_opaque(out / "second")
    assert (out / "stays").read_bytes() == b"1"
    assert (out / "returns").read_bytes() == b"2"


def test_both_digests_and_sizes(tmp_path: Path) -> None:
    tar = make_tar(entry("f", data=os.urandom(3 << 20))) + b"\0" * 5000
    for number, data in enumerate((tar, gzip.compress(tar), run("zstd", "-c", data=tar))):
        result = apply(data, tmp_path / str(number), piece=100_001)
        assert result.digest == "sha256:" + hashlib.sha256(data).hexdigest()
        assert result.diff_id == "sha256:" + hashlib.sha256(tar).hexdigest()
        assert (result.compressed_size, result.size, result.entries) == (len(data), len(tar), 1)


def skippable(payload: bytes) -> bytes:
    return struct.pack("<II", 0x184D2A50, len(payload)) + payload


@pytest.mark.parametrize("piece", [1, 7, 4096, 1 << 20])
def test_members_frames_and_pieces(tmp_path: Path, piece: int) -> None:
    tar = make_tar(*(entry(f"f{i}", data=os.urandom(50) * i) for i in range(60)))
    parts = [tar[i : i + 9999] for i in range(0, len(tar), 9999)]
    zstd = [run("zstd", "-c", data=part) for part in parts]
    layers = [
        b"".join(map(gzip.compress, parts)),
        b"".join(map(gzip.compress, parts)) + b"\0" * 700,  # a tape's padding
        b"".join(zstd),
        skippable(b"first") + b"".join(zstd) + skippable(b"zstd:chunked's manifest"),
        tar,
    ]
    for number, data in enumerate(layers):
        result = apply(data, tmp_path / str(number), piece=piece)
        assert result.diff_id == "sha256:" + hashlib.sha256(tar).hexdigest()


def test_gzip_with_every_optional_header_field(tmp_path: Path) -> None:
    tar = make_tar(entry("f", data=b"x"))
    plain = gzip.compress(tar, mtime=0)
    header = (
        plain[:3]
        + bytes([4 | 8 | 16])
        + plain[4:10]
        + struct.pack("<H", 3)
        + b"abc"
        + b"name\0"
        + b"comment\0"
    )
    assert apply(header + plain[10:], tmp_path / "out").entries == 1


def test_from_a_descriptor(tmp_path: Path) -> None:
    data = gzip.compress(make_tar(entry("f", data=b"x" * 5_000_000)))
    reader, writer = os.pipe()
    (tmp_path / "out").mkdir()

    def send() -> None:
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(data)

    thread = threading.Thread(target=send)
    thread.start()
    result = _core.apply_layer(reader, tmp_path / "out")
    thread.join()
    os.close(reader)
    assert result.digest == "sha256:" + hashlib.sha256(data).hexdigest()


def test_an_empty_layer(tmp_path: Path) -> None:
    assert apply(b"", tmp_path / "nothing").entries == 0
    assert apply(gzip.compress(bytes(1024)), tmp_path / "zeros").entries == 0
    assert os.listdir(tmp_path / "zeros") == []


def test_the_destination_must_be_an_empty_directory(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    (tmp_path / "link").symlink_to("full")
    for name in ("full", "link", "missing"):
        with pytest.raises(KernelError):
            _core.LayerWriter(tmp_path / name)


def test_abort_while_another_thread_writes(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    writer = _core.LayerWriter(tmp_path / "out")
    data = gzip.compress(make_tar(entry("f", data=bytes(64 << 20))))
    failures: list[BaseException] = []

    def feed() -> None:
        try:
            while True:
                writer.write(data)
        except (KernelError, ImageError) as error:
            failures.append(error)

    thread = threading.Thread(target=feed)
    thread.start()
    writer.abort()
    thread.join()
    assert len(failures) == 1
    with pytest.raises(KernelError):
        writer.finish()


def test_a_writer_that_is_dropped_stops(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    before = set(os.listdir("/proc/self/task"))
    writer = _core.LayerWriter(tmp_path / "out")
    writer.write(make_tar(entry("f", data=bytes(1 << 20)))[:700_000])
    assert set(os.listdir("/proc/self/task")) - before
    del writer
    deadline = time.monotonic() + 10  # pthread_join(3) may return a moment before the kernel unlinks the task
    while not set(os.listdir("/proc/self/task")) <= before:
        assert time.monotonic() < deadline


def test_the_umask_and_the_destination_do_not_matter(tmp_path: Path) -> None:
    out = tmp_path / "out"
    parent = tmp_path / "parent"
    parent.mkdir()
    subprocess.run(["chmod", "2777", parent], check=True)
    os.chown(parent, 0, 77)
    before = os.umask(0o077)
    try:
        out = parent / "out"
        apply(make_tar(entry("f", data=b"", mode=0o666), entry("d", tarfile.DIRTYPE, mode=0o777)), out)
        now = os.umask(0o077)
    finally:
        os.umask(before)
    assert now == 0o077, "the process's own umask is left alone"
    found = describe(out, root_too=True)
    assert [found[name].mode & 0o7777 for name in ("", "d", "f")] == [0o755, 0o777, 0o666]
    assert {file.owner for file in found.values()} == {(0, 0)}


def test_headers_at_the_ends_of_chunks(tmp_path: Path) -> None:
    """A long name whose header ends one of the pipeline's chunks and whose text begins the next one."""
    for shift in range(0, 4096, 512):
        data = make_tar(
            entry("fill", data=bytes((512 << 10) - 5 * 512 + shift)),
            entry("n/" * 120 + "file", tarfile.SYMTYPE, linkname="target/" * 40),
            entry("rest", data=bytes(3 << 20)),
            form=tarfile.GNU_FORMAT,
        )
        apply(data, tmp_path / str(shift))
        assert os.readlink(tmp_path / str(shift) / ("n/" * 120 + "file")) == "target/" * 40
