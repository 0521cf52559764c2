"""One layer from a registry into the store: fetched, verified and unpacked in one pass.

The bytes go at once into the blob's file and into the layer writer, in a thread, while the next ones arrive.
A cut connection goes on with a Range request; so does the next process after a kill, from the partial file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import Executor, Future, wait
from typing import Any

import aiohttp

from fastdock._errors import ImageError, RegistryError
from fastdock.registry.client import Interrupted, RegistryClient
from fastdock.registry.progress import Progress, ProgressCallback, short
from fastdock.store import Store
from fastdock.store.blobs import CHUNK, check_digest
from fastdock.store.layers import Blob, Unpacking, check_result
from fastdock.store.locks import FileLock
from fastdock.store.manifest import Descriptor

BATCH = 1 << 20  # bytes handed to the thread at once
WORTH = 1 << 16  # bytes that an attempt must bring to count as getting on
_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")


@contextlib.asynccontextmanager
async def locked(lock: FileLock, waiting: Callable[[], None]) -> AsyncIterator[None]:
    """Holds a lock between processes, without a thread that could not be cancelled while it waits."""
    first = True
    while not lock.acquire(blocking=False):
        if first:
            waiting()
            first = False
        await asyncio.sleep(0.03)
    try:
        yield
    finally:
        lock.release()


def blob_lock(store: Store, digest: str) -> FileLock:
    """The lock to hold while a blob is being fetched."""
    return FileLock(os.path.join(store.root, "locks", f"blob-{check_digest(digest)}"))


class LayerDownload:
    """Brings one layer here, unless it is."""

    def __init__(
        self,
        store: Store,
        client: RegistryClient,
        repository: str,
        descriptor: Descriptor,
        diff_id: str,
        threads: Executor,
        progress: ProgressCallback,
    ) -> None:
        self.store, self.client, self.descriptor, self.diff_id = store, client, descriptor, diff_id
        self._path, self._scope = f"{repository}/blobs/{descriptor.digest}", f"repository:{repository}:pull"
        self._blob = Blob(descriptor.digest, descriptor.size, descriptor.media_type)
        self._threads = threads
        self._progress = progress

    async def run(self) -> None:
        """Raises ImageError where the layer is not what was promised, RegistryError where it cannot be had."""
        if self.store.layers.find_diff(self.diff_id):
            self._tell("Already exists")
            return
        waiting = lambda: self._tell("Waiting")  # noqa: E731
        async with locked(blob_lock(self.store, self.descriptor.digest), waiting):
            if self.store.blobs.has(self.descriptor.digest):
                self._tell("Extracting")
                await asyncio.get_running_loop().run_in_executor(
                    self._threads, self.store.layers.unpack_blob, self.descriptor.digest, self.diff_id, self._blob
                )
            else:
                async with locked(self.store.layers.lock(self.diff_id), waiting):
                    if self.store.layers.find_diff(self.diff_id):  # another process was faster
                        self._tell("Already exists")
                        return
                    await self._fetch()
        self._tell("Pull complete")

    async def _fetch(self) -> None:
        """Once more from the first byte if what a killed process left turns out to be damaged."""
        resumed = os.path.exists(self.store.blobs.partial_path(self.descriptor.digest))
        try:
            await self._fetch_and_unpack()
        except ImageError:
            if not resumed:
                raise
            await self._fetch_and_unpack()

    async def _fetch_and_unpack(self) -> None:
        path = self.store.blobs.partial_path(self.descriptor.digest)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "r+b", buffering=0) as file, Unpacking(self.store.layers) as unpacking:
            sink = _Sink(file, unpacking, self.descriptor, self._threads)
            try:
                offset = await sink.run(sink.replay)
                await self._transfer(sink, offset)
                self._tell("Verifying", self.descriptor.size)
                await sink.run(sink.finish, self.diff_id)
                self.store.blobs.publish(path, self.descriptor.digest)
                await sink.run(sink.publish, self._blob)
            except ImageError:  # these bytes are of no use to anybody
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                raise
            finally:
                sink.drain()

    async def _transfer(self, sink: _Sink, offset: int) -> None:
        """Feeds the sink with the bytes from ``offset`` on, over as many connections as it takes."""
        failures = 0
        while offset < self.descriptor.size:
            start = offset
            problem: Exception | None = None
            try:
                async with contextlib.aclosing(self._batches(offset)) as batches:
                    async for batch in batches:
                        offset += sum(map(len, batch))
                        if offset > self.descriptor.size:
                            raise ImageError(f"the registry sends more of {self.descriptor.digest} than its size")
                        await sink.put(batch)
                        self._tell("Downloading", offset)
            except (aiohttp.ClientError, TimeoutError) as error:
                problem = error
            if offset < self.descriptor.size:
                failures = 0 if offset - start >= WORTH else failures + 1
                if failures >= self.client.retry.attempts:
                    raise Interrupted(
                        f"{self.client.host} keeps breaking off {self.descriptor.digest}: {problem}"
                    )
                await self.client.sleep(self.client.retry.seconds(failures))

    async def _batches(self, offset: int) -> AsyncGenerator[list[bytes], None]:
        """The blob's bytes from ``offset`` on, about BATCH at a time; ends early if the connection does."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        async with self.client.request(
            "GET", self._path, scope=self._scope, headers=headers, expected=(200, 206)
        ) as response:
            skip = _bytes_to_skip(response, offset)
            batch: list[bytes] = []
            size = 0
            try:
                async for chunk in response.content.iter_any():
                    if skip:
                        chunk, skip = chunk[skip:], max(0, skip - len(chunk))
                    batch.append(chunk)
                    size += len(chunk)
                    if size >= BATCH:
                        yield batch
                        batch, size = [], 0
            except (aiohttp.ClientError, TimeoutError):
                if size:  # what did arrive counts
                    yield batch
                raise
            if size:
                yield batch

    def _tell(self, status: str, current: int = 0) -> None:
        self._progress(Progress(short(self.descriptor.digest), status, current, self.descriptor.size))


class _Sink:
    """Where the bytes go: the partial file and the layer writer.  One batch is being written while one arrives."""

    def __init__(self, file: Any, unpacking: Unpacking, descriptor: Descriptor, threads: Executor) -> None:
        self._file, self._unpacking, self._descriptor, self._threads = file, unpacking, descriptor, threads
        self._pending: Future[Any] | None = None
        self._result: Any = None

    async def run(self, call: Callable[..., Any], *arguments: object) -> Any:
        """Runs a call in a thread, after what is pending, and waits for it."""
        await self._wait()
        self._pending = self._threads.submit(call, *arguments)
        return await self._wait()

    async def put(self, batch: list[bytes]) -> None:
        """Hands a batch over, after the one before it is done with (so at most two are in memory)."""
        await self._wait()
        self._pending = self._threads.submit(self._write, batch)

    async def _wait(self) -> Any:
        if self._pending is None:
            return None
        # Shielded: a cancellation must not make us forget a thread that is still at work.
        result = await asyncio.shield(asyncio.wrap_future(self._pending))
        self._pending = None
        return result

    def drain(self) -> None:
        """Waits for the thread, whatever becomes of its call: the file and the writer are about to be closed."""
        if self._pending is not None and not self._pending.cancel():
            wait([self._pending])

    def replay(self) -> int:
        """Feeds the writer with what is in the partial file; its length."""
        offset = 0
        if os.fstat(self._file.fileno()).st_size > self._descriptor.size:
            self._file.truncate(0)
        while chunk := self._file.read(CHUNK):
            self._unpacking.write(chunk)
            offset += len(chunk)
        return offset

    def finish(self, diff_id: str) -> None:
        """Ends the stream and verifies size and digests; the blob's bytes are on the disk afterwards."""
        self._result = self._unpacking.finish()
        check_result(self._result, self._descriptor.digest, diff_id)
        os.fsync(self._file.fileno())

    def publish(self, blob: Blob) -> None:
        self._unpacking.publish_result(self._result, blob)

    def _write(self, batch: list[bytes]) -> None:
        for chunk in batch:
            view = memoryview(chunk)
            while view:
                view = view[self._file.write(view) :]
            self._unpacking.write(chunk)


def _bytes_to_skip(response: aiohttp.ClientResponse, offset: int) -> int:
    """How many of the answer's bytes we already have; RegistryError where it is not what was asked for."""
    if response.status == 200:
        return offset  # the registry knows no ranges
    match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if not match or int(match[1]) != offset:
        raise RegistryError(f"{response.url.host} answers another range than was asked for")
    return 0
