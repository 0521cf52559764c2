"""Layers from files and pipes: one pass into a blob and an unpacked directory."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from fastdock._errors import ImageError
from fastdock.store.blobs import CHUNK
from fastdock.store.layers import Blob, Unpacking, check_result
from fastdock.store.manifest import OCI_LAYER, Descriptor
from fastdock.store.store import Store

_MAGICS = {b"\x1f\x8b": "+gzip", b"\x28\xb5\x2f\xfd": "+zstd"}


def add_layer(store: Store, chunks: Iterable[bytes], *, diff_id: str | None = None) -> tuple[Descriptor, str]:
    """Takes a layer's tar, plain or compressed: its blob's descriptor and its diff_id.

    Call within ``store.writing()``.  ImageError where it cannot be unpacked or is not ``diff_id``; nothing of it
    is left then.
    """
    fd, path = tempfile.mkstemp(dir=store.blobs.ingest, prefix="layer-")
    start = b""
    try:
        with os.fdopen(fd, "wb", buffering=0) as file, Unpacking(store.layers) as unpacking:
            for chunk in chunks:
                if len(start) < 4:
                    start += chunk[:4]
                write_all(file, chunk)
                unpacking.write(chunk)
            if not start:
                raise ImageError("the archive is empty")
            result = unpacking.finish()
            check_result(result, None, diff_id)
            os.fsync(file.fileno())
            store.blobs.publish(path, result.digest)
            media_type = OCI_LAYER + compression_suffix(start)
            with store.layers.lock(result.diff_id):
                unpacking.publish_result(result, Blob(result.digest, result.compressed_size, media_type))
    except BaseException:
        if os.path.exists(path):
            os.unlink(path)
        raise
    return Descriptor(media_type, result.digest, result.compressed_size), result.diff_id


def compression_suffix(start: bytes) -> str:
    """What the first bytes of a layer mean for its media type."""
    return next((suffix for magic, suffix in _MAGICS.items() if start.startswith(magic)), "")


def write_all(file: Any, data: bytes) -> None:
    """write(2) may take less than all."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def read_chunks(
    file: Any, size: int | None = None, progress: Callable[[int], None] | None = None
) -> Iterator[bytes]:
    """The bytes of a file, to its end or ``size`` of them."""
    done = 0
    while size is None or done < size:
        chunk = file.read(CHUNK if size is None else min(CHUNK, size - done))
        if not chunk:
            if size is not None:
                raise ImageError("the archive ends in the middle of a file")
            return
        done += len(chunk)
        if progress:
            progress(done)
        yield chunk


@contextmanager
def pipe_from(produce: Callable[[int], object]) -> Iterator[int]:
    """A pipe's reading end; ``produce(fd)`` writes to the other, in a thread.  Its error is raised on leaving."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    problems: list[BaseException] = []

    def run() -> None:
        try:
            produce(writer)
        except BaseException as error:
            problems.append(error)
        finally:
            os.close(writer)

    thread = threading.Thread(target=run, name="fastdock-pipe", daemon=True)
    thread.start()
    try:
        yield reader
    except BaseException as error:
        os.close(reader)  # a producer that is still at it gets EPIPE
        thread.join()
        if problems and not isinstance(problems[0], BrokenPipeError):
            raise problems[0] from error  # what it was told is only what became of that
        raise
    os.close(reader)
    thread.join()
    if problems:
        raise problems[0]


@contextmanager
def piped(produce: Callable[[int], object]) -> Iterator[Iterator[bytes]]:
    """The bytes that ``produce(fd)`` writes."""
    with pipe_from(produce) as reader, os.fdopen(os.dup(reader), "rb", buffering=0) as file:
        yield read_chunks(file)
