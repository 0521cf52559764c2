"""Layers that are made here: what a container changed, what differs; their form, and what other programs read."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest
from layer_files import apply, describe, is_opaque, is_whiteout, pack

from fastdock import _core
from fastdock._errors import ImageError, KernelError

pytestmark = pytest.mark.kernel


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
