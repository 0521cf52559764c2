"""Makes the fuzz targets' first inputs: small archives of every dialect, plain and compressed.

Usage: layer_corpus.py [DIRECTORY]   (tests/fuzz/corpus; run again after adding a dialect, and commit)
"""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
PREFIX = b"\x09\x00"  # the targets' first two bytes choose how the rest is cut


def python_tar(form: int, **headers: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, pax_headers={"comment": "global"}) as tar:
        for kind in (
            tarfile.DIRTYPE,
            tarfile.REGTYPE,
            tarfile.SYMTYPE,
            tarfile.LNKTYPE,
            tarfile.CHRTYPE,
            tarfile.FIFOTYPE,
        ):
            info = tarfile.TarInfo(f"d/{kind.decode()}")
            info.type, info.linkname, info.devmajor, info.devminor = kind, "d/0", 1, 3
            info.pax_headers = dict(headers)
            info.size = 5 if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(b"12345"))
        long = tarfile.TarInfo("n" * 80 + "/" + "m" * 80)
        long.uid, long.mtime = 2_000_000, 1 if form == tarfile.USTAR_FORMAT else -1
        long.uid = 5 if form == tarfile.USTAR_FORMAT else 3_000_000
        tar.addfile(long)
        for name in (".wh.gone", "d/.wh..wh..opq", "/abs/../x"):
            tar.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


def sparse_tar(*options: str) -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "sparse"
        with path.open("wb") as file:
            for part in range(6):
                file.seek(part << 16)
                file.write(b"part")
            file.truncate(1 << 20)
        command = [
            "tar",
            "--sparse",
            *options,
            "--mtime=@0",
            "--owner=0",
            "--group=0",
            "-C",
            directory,
            "-c",
            "sparse",
        ]
        return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "corpus"
    tars = {
        "ustar": python_tar(tarfile.USTAR_FORMAT),
        "gnu": python_tar(tarfile.GNU_FORMAT),
        "pax": python_tar(tarfile.PAX_FORMAT, uid="70000", mtime="-1.5", **{"SCHILY.xattr.user.a": "b"}),
        "xattr": python_tar(tarfile.PAX_FORMAT, **{"LIBARCHIVE.xattr.user.%41": "AAEC", "path": "other"}),
        "sparse-old": sparse_tar("--format=oldgnu"),
        **{
            f"sparse-{v}": sparse_tar("--format=posix", f"--sparse-version={v}")
            for v in ("0.0", "0.1", "1.0")
        },
    }
    for target in ("layer_tar_fuzz", "layer_decompress_fuzz", "layer_recompress_fuzz"):
        (root / target).mkdir(parents=True, exist_ok=True)
    for name, data in tars.items():
        (root / "layer_tar_fuzz" / name).write_bytes(PREFIX + data.rstrip(b"\0") + bytes(600))
    data = tars["pax"]
    zstd = [
        subprocess.run(["zstd", "-c"], input=part, stdout=subprocess.PIPE, check=True).stdout
        for part in (data[:4000], data[4000:])
    ]
    streams = {
        "plain": data[:1024],
        "gzip": gzip.compress(data, mtime=0),
        "members": gzip.compress(data[:3000], mtime=0) + gzip.compress(data[3000:], mtime=0) + bytes(20),
        "zstd": zstd[0],
        "frames": zstd[0] + b"\x50\x2a\x4d\x18\x03\0\0\0abc" + zstd[1],
    }
    for name, stream in streams.items():
        for target in ("layer_decompress_fuzz", "layer_recompress_fuzz"):
            (root / target / name).write_bytes(PREFIX + stream)


if __name__ == "__main__":
    main()
