"""Images for the tests, made here."""

from __future__ import annotations

import io
import random
import tarfile


def tar(files: dict[str, bytes], compression: str = "") -> bytes:
    """A tar of files and, for names that end in a slash, directories."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode=f"w:{compression}" if compression else "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name.rstrip("/"))
            if name.endswith("/"):
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return output.getvalue()


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that do not compress, always the same ones for a seed."""
    return random.Random(seed).randbytes(size)


def image(images, reference: str | None, files: dict[str, bytes] | None = None, **options):
    """An image of one layer."""
    files = {"etc/": b"", "etc/name": str(reference).encode()} if files is None else files
    return images.import_tar(io.BytesIO(tar(files)), reference, **options)


def layered(images, reference: str, sizes: list[int], base_seed: int = 0):
    """An image of as many layers as there are sizes, each with one file of noise of that size."""
    import tempfile
    from pathlib import Path

    made = image(images, reference, {"layer0": noise(sizes[0], base_seed)})
    for number, size in enumerate(sizes[1:], 1):
        with tempfile.TemporaryDirectory() as upper:
            Path(upper).chmod(0o755)  # as the root directory is below
            Path(upper, f"layer{number}").write_bytes(noise(size, base_seed + number))
            made = images.commit(upper, made.id, reference)
    return made


def tree(image) -> dict[str, bytes]:
    """The contents of all regular files in the image's layers, upper ones hiding lower ones."""
    import os
    from pathlib import Path

    found = {}
    for layer in image.record.layer_paths:
        for directory, _, names in os.walk(layer):
            for name in names:
                path = Path(directory, name)
                if path.is_symlink():
                    continue
                found[str(path.relative_to(layer))] = path.read_bytes()
    return found
