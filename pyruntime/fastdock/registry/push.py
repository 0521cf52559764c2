"""Pushing an image: blobs that the registry lacks (mounted from elsewhere on it, if they are), then the manifest."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import NamedTuple
from urllib.parse import quote

import aiohttp

from fastdock._errors import FastdockError, ImageNotFound, RegistryError
from fastdock.registry.client import Interrupted, RegistryClient
from fastdock.registry.progress import Progress, ProgressCallback, ignore, short
from fastdock.registry.pull import Transfer, connect
from fastdock.registry.reference import Reference
from fastdock.store import Store
from fastdock.store.compose import Composed, compose
from fastdock.store.manifest import Descriptor

PIECE = 64 << 20  # bytes of one PATCH; what is lost at most when a connection is cut
SMALL = 4 << 20  # bytes up to which a blob goes in one PUT
CHUNK = 1 << 20
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")


class PushResult(NamedTuple):
    digest: str  # of the manifest
    size: int  # of the manifest, in bytes


async def push(
    store: Store,
    reference: Reference,
    *,
    compression: str | None = None,
    progress: ProgressCallback = ignore,
    transfer: Transfer | None = None,
) -> PushResult:
    """Sends the image that is called ``reference`` here to the registry of that name.

    Raises ImageNotFound, RegistryError.
    """
    transfer = transfer or Transfer.default()
    image = store.get(str(reference))
    progress(Progress("", f"The push refers to repository [{reference.repository}]"))
    with store.writing():
        composed = await asyncio.to_thread(compose, store, image, compression)
        async with connect(reference, transfer) as client:
            await _push_blobs(store, client, reference, composed, progress, transfer.jobs)
            await _put_manifest(client, reference, composed)
    store.record_push(image.id, composed.digest, reference.repository)
    return PushResult(composed.digest, len(composed.data))


async def _push_blobs(
    store: Store,
    client: RegistryClient,
    reference: Reference,
    composed: Composed,
    progress: ProgressCallback,
    jobs: int,
) -> None:
    document = composed.document
    blobs = {descriptor.digest: descriptor for descriptor in (*document.layers, document.config)}
    layers = {layer.digest for layer in document.layers}
    turns = asyncio.Semaphore(jobs)
    for digest in layers:
        progress(Progress(short(digest), "Preparing"))

    async def one(descriptor: Descriptor) -> None:
        async with turns:
            tell = progress if descriptor.digest in layers else ignore
            await _BlobUpload(store, client, reference, descriptor, tell).run()

    try:
        async with asyncio.TaskGroup() as group:
            for descriptor in blobs.values():
                group.create_task(one(descriptor))
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _put_manifest(client: RegistryClient, reference: Reference, composed: Composed) -> None:
    headers = {"Content-Type": composed.media_type}
    async with client.request(
        "PUT",
        f"{reference.path}/manifests/{reference.tag or composed.digest}",
        scope=f"repository:{reference.path}:pull,push",
        headers=headers,
        body=composed.data,
        expected=(200, 201, 202),
    ) as response:
        digest = response.headers.get("Docker-Content-Digest", composed.digest)
    if digest != composed.digest:
        raise RegistryError(f"{client.host} stored the manifest as {digest}, not {composed.digest}")


class _BlobUpload:
    """Brings one blob to a repository, unless it is there."""

    def __init__(
        self,
        store: Store,
        client: RegistryClient,
        reference: Reference,
        descriptor: Descriptor,
        progress: ProgressCallback,
    ) -> None:
        self.store, self.client, self.descriptor, self.progress = store, client, descriptor, progress
        self.reference = reference
        self._scope = f"repository:{reference.path}:pull,push"
        self._uploads = f"{reference.path}/blobs/uploads/"

    async def run(self) -> None:
        if await self._exists():
            self._tell("Layer already exists")
        elif mounted := await self._mount():
            self._tell(f"Mounted from {mounted}")
        else:
            await self._upload()
            self._tell("Pushed", self.descriptor.size)
        self.store.record_source(self.descriptor.digest, self.reference.repository)

    async def _exists(self) -> bool:
        target = f"{self.reference.path}/blobs/{self.descriptor.digest}"
        async with self.client.request("HEAD", target, scope=self._scope, expected=(200, 404)) as response:
            return response.status == 200

    async def _mount(self) -> str:
        """Has the registry take the blob from another of its repositories; which one, or empty."""
        prefix = self.reference.domain + "/"
        for source in self.store.blob_sources(self.descriptor.digest):
            path = source.removeprefix(prefix)
            if path == source or path == self.reference.path:
                continue
            try:
                async with self.client.request(
                    "POST",
                    f"{self._uploads}?mount={self.descriptor.digest}&from={quote(path, safe='')}",
                    scope=f"{self._scope} repository:{path}:pull",
                    expected=(201, 202),
                ) as response:
                    if response.status == 201:
                        return path
                    await self._cancel(response.headers.get("Location", ""))
            except RegistryError:  # not allowed there: then it is sent
                continue
        return ""

    async def _cancel(self, location: str) -> None:
        """Drops the upload that a registry began because it could not mount."""
        if location:
            async with self.client.request(
                "DELETE", location, scope=self._scope, expected=range(200, 500), attempts=1
            ):
                pass

    async def _upload(self) -> None:
        """Sends the blob in pieces; after a cut, asks how much arrived and goes on from there."""
        location, offset, failures = await self._begin(), 0, 0
        while True:
            before = offset
            try:
                while self.descriptor.size > SMALL and offset < self.descriptor.size:
                    location, offset = await self._send_piece(location, offset)
                await self._finish(location, offset)
                return
            except (Interrupted, aiohttp.ClientError, TimeoutError, ImageNotFound) as error:
                failures += 1
                if failures >= self.client.retry.attempts:
                    raise Interrupted(
                        f"{self.client.host} keeps breaking off {self.descriptor.digest}: {error}"
                    ) from error
            await self.client.sleep(self.client.retry.seconds(failures - 1))
            location, offset = await self._resume(location)
            if offset > before:
                failures = 0

    async def _begin(self) -> str:
        async with self.client.request("POST", self._uploads, scope=self._scope, expected=(202,)) as response:
            return _location(response)

    async def _send_piece(self, location: str, offset: int) -> tuple[str, int]:
        end = min(offset + PIECE, self.descriptor.size)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(end - offset),
            "Content-Range": f"{offset}-{end - 1}",
        }
        async with self.client.request(
            "PATCH",
            location,
            scope=self._scope,
            headers=headers,
            body=lambda: self._bytes(offset, end),
            expected=(202,),
            attempts=1,
        ) as response:
            return _location(response), _received(response) or end

    async def _finish(self, location: str, offset: int) -> None:
        """Closes the upload, with the rest of the bytes; the registry verifies the digest."""
        rest = self.descriptor.size - offset
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(rest)}
        separator = "&" if "?" in location else "?"
        async with self.client.request(
            "PUT",
            f"{location}{separator}digest={quote(self.descriptor.digest, safe='')}",
            scope=self._scope,
            headers=headers,
            body=(lambda: self._bytes(offset, self.descriptor.size)) if rest else b"",
            expected=(201, 204),
            attempts=1,
        ):
            pass

    async def _resume(self, location: str) -> tuple[str, int]:
        """Where an interrupted upload stands; a new one, if the registry forgot it."""
        try:
            async with self.client.request(
                "GET", location, scope=self._scope, expected=(200, 204), attempts=2
            ) as response:
                offset = _received(response)
                if self.descriptor.size > SMALL and offset <= self.descriptor.size:
                    return _location(response, location), offset
        except FastdockError:
            pass
        return await self._begin(), 0

    async def _bytes(self, start: int, end: int) -> AsyncIterator[bytes]:
        with open(self.store.blobs.path(self.descriptor.digest), "rb") as file:
            file.seek(start)
            while start < end:
                chunk = file.read(min(CHUNK, end - start))
                if not chunk:
                    raise RegistryError(f"blob {self.descriptor.digest} is shorter than its size")
                yield chunk
                start += len(chunk)
                self._tell("Pushing", start)

    def _tell(self, status: str, current: int = 0) -> None:
        self.progress(Progress(short(self.descriptor.digest), status, current, self.descriptor.size))


def _location(response: aiohttp.ClientResponse, default: str = "") -> str:
    location = response.headers.get("Location", default)
    if not location:
        raise RegistryError(f"{response.url.host} does not say where to upload to")
    return location


def _received(response: aiohttp.ClientResponse) -> int:
    """How many bytes the registry has, from the Range header of an upload; 0 if it does not say."""
    match = _RANGE.fullmatch(response.headers.get("Range", ""))
    return int(match[1]) + 1 if match and match[1] != "0" else 0
